//! Where `sluice run` takes its settings from: the command line, then the environment, then the file.
//!
//! Every flag `--max-flows` can be given as `SLUICE_MAX_FLOWS` in the environment, and as `maxFlows` in the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::command_line::Cli;
use super::groups;
use super::output::{self, Format};
use crate::config::file;
use crate::config::findings::{Finding, Loaded, Takes, Verdict};

/// The sub-command that takes settings.
pub(super) const RUN: &str = "run";

/// The command line's grammar with the environment added.
pub(super) fn grammar() -> Command {
    groups::grouped(Cli::command()).mut_subcommand(RUN, |run| {
        run.mut_args(|arg| {
            let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
            let name = format!("SLUICE_{}", long.replace('-', "_").to_ascii_uppercase());
            let arg = if arg.get_env().is_none() { arg.env(name) } else { arg };
            let arg = if matches!(arg.get_action(), ArgAction::Append) { arg.value_delimiter(',') } else { arg };
            arg.hide_env_values(true)
        })
    })
}

/// The command of this process, and what its configuration file said.
pub(super) fn parse(args: Vec<OsString>) -> anyhow::Result<(Cli, Vec<Finding>)> {
    let draft = grammar().ignore_errors(true).try_get_matches_from(&args).ok();
    let file = draft.as_ref().and_then(|draft| {
        let run = draft.subcommand_matches(RUN)?;
        Some((run, run.try_get_one::<PathBuf>("config").ok().flatten()?))
    });
    let (mut args, mut findings) = (args, Vec::new());
    if let Some((run, path)) = file {
        let loaded = load(path)?;
        refuse(path, &loaded)?;
        args.extend(extra_arguments(run, &loaded));
        findings = loaded.findings;
    }
    let matches = grammar().get_matches_from(args);
    Ok((Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()), findings))
}

fn load(path: &Path) -> anyhow::Result<Loaded> {
    let grammar = grammar();
    let run = grammar.find_subcommand(RUN);
    let known = |flag: &str| {
        let arg = run?.get_arguments().find(|arg| arg.get_long() == Some(flag))?;
        Some(match arg.get_action() {
            ArgAction::SetTrue => Takes::Switch,
            _ if arg.get_num_args().is_some_and(|number| number.min_values() == 0) => Takes::Perhaps,
            _ => Takes::Value,
        })
    };
    let mut loaded = file::read(path, &known)?;
    let wrong: Vec<(String, String)> =
        loaded.settings.iter().filter_map(|(flag, values)| Some((flag.clone(), wrong_value(flag, values)?))).collect();
    for (flag, why) in wrong {
        loaded.refuse_flag(&flag, &why);
    }
    Ok(loaded)
}

/// Why a flag does not take these values, if so: the file's mistake should be told with the file's field.
fn wrong_value(flag: &str, values: &[String]) -> Option<String> {
    let args = [OsString::from("sluice"), OsString::from(RUN)].into_iter().chain(arguments(flag, values));
    let error = Cli::command().try_get_matches_from(args).err()?;
    let about_values = matches!(
        error.kind(),
        ErrorKind::ValueValidation
            | ErrorKind::InvalidValue
            | ErrorKind::TooManyValues
            | ErrorKind::TooFewValues
            | ErrorKind::WrongNumberOfValues
            | ErrorKind::ArgumentConflict
    );
    // The first line says what is wrong, the others how to get help on the command line.
    let text = error.to_string();
    about_values.then(|| text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
}

/// A flag with its values as arguments.
fn arguments(flag: &str, values: &[String]) -> Vec<OsString> {
    if values.is_empty() {
        return vec![OsString::from(format!("--{flag}"))];
    }
    values.iter().map(|value| OsString::from(format!("--{flag}={value}"))).collect()
}

fn refuse(path: &Path, loaded: &Loaded) -> anyhow::Result<()> {
    let refused: Vec<String> =
        loaded.refused().map(|row| format!("{} ({}): {}", row.field, row.value, row.note)).collect();
    if !refused.is_empty() {
        bail!("configuration {} is refused:\n  {}", path.display(), refused.join("\n  "));
    }
    Ok(())
}

/// What the file says and nobody else does.
fn extra_arguments(given: &ArgMatches, loaded: &Loaded) -> Vec<OsString> {
    let is_given =
        |id: &str| matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    let mut extra = Vec::new();
    for (flag, values) in &loaded.settings {
        let id = flag.replace('-', "_");
        let other_source = match flag.as_str() {
            "kube" | "kubeconfig" | "api-server" => {
                is_given("manifests") || (flag == "kube" && loaded.settings.contains_key("manifests"))
            }
            "manifests" => is_given("kube"),
            _ => false,
        };
        if is_given(&id) || other_source {
            continue;
        }
        extra.extend(arguments(flag, values));
    }
    extra
}

/// `sluice check-config`.
pub(super) fn check(path: &Path, format: Format) -> anyhow::Result<()> {
    let loaded = load(path)?;
    output::print(&loaded.findings, format, |findings| {
        let mut table = output::table(&["FIELD", "VALUE", "VERDICT", "AS, OR WHY"]);
        for Finding { field, value, verdict, note } in findings {
            table.add_row([field.as_str(), value, verdict.name(), note]);
        }
        format!("{table}\n")
    })?;
    let refused = loaded.findings.iter().filter(|row| row.verdict == Verdict::Refused).count();
    if refused > 0 {
        bail!("{refused} fields are refused: the agent does not start with this file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(file: &str, args: &[&str]) -> anyhow::Result<String> {
        let file_path = tempfile::NamedTempFile::new()?;
        std::fs::write(file_path.path(), file)?;
        let path = file_path.path().to_string_lossy().into_owned();
        let all = [&["sluice", "run", "--config", &path], args].concat();
        let (cli, _) = parse(all.into_iter().map(OsString::from).collect())?;
        Ok(format!("{cli:?}"))
    }

    const OWN: &str = "apiVersion: config.sluice-lb.io/v1alpha1\nkind: SluiceConfiguration\n";
    const KUBE_PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         mode: nftables\nhostnameOverride: from-file\nclusterCIDR: 10.1.0.0/16\nnodePortAddresses: [primary]\n";

    #[test]
    fn a_file_alone_is_enough_and_the_command_line_wins() {
        let alone = run_with(KUBE_PROXY, &[]).unwrap();
        assert!(alone.contains("node_name: \"from-file\"") && alone.contains("kube: true"), "{alone}");
        assert!(alone.contains("10.1.0.0/16"), "{alone}");
        let args = ["--node-name", "from-args", "--cluster-cidr", "10.2.0.0/16,fd00::/64", "--manifests", "/x"];
        let both = run_with(KUBE_PROXY, &args).unwrap();
        assert!(both.contains("node_name: \"from-args\"") && both.contains("kube: false"), "{both}");
        assert!(both.contains("10.2.0.0/16") && both.contains("fd00::/64") && !both.contains("10.1.0.0"), "{both}");
    }

    #[test]
    fn a_refused_field_keeps_the_agent_from_starting() {
        let error = run_with("kind: SluiceConfiguration\napiVersion: config.sluice-lb.io/v1alpha1\nfoo: 1\n", &[]);
        let message = error.unwrap_err().to_string();
        assert!(message.contains("foo") && message.contains("no such setting"), "{message}");
    }

    #[test]
    fn a_value_that_its_flag_does_not_take_is_refused_with_the_files_field() {
        for (kind, field, value) in [
            (KUBE_PROXY, "conntrack.maxPerCore", "conntrack: {maxPerCore: -1}"),
            (KUBE_PROXY, "conntrack.udpTimeout", "conntrack: {udpTimeout: 30}"),
            (KUBE_PROXY, "oomScoreAdj", "oomScoreAdj: 2000"),
            (KUBE_PROXY, "healthzBindAddress", "healthzBindAddress: localhost"),
            (OWN, "maxFlows", "maxFlows: true"),
            (OWN, "takeover", "takeover: 5"),
            (OWN, "syncPeriod", "syncPeriod: [1s, 2s]"),
        ] {
            let message = run_with(&format!("{kind}{value}\n"), &[]).unwrap_err().to_string();
            let rows: Vec<&str> = message.lines().skip(1).collect();
            assert!(rows.len() == 1 && rows[0].trim().starts_with(&format!("{field} (")), "{field}: {message}");
        }
    }

    #[test]
    fn off_is_off_and_a_boolean_is_no_value() {
        let off = "xdp: off\nsocketLb: off\nhealthzBindAddress: off\nnodeName: n\nmanifests: /x\n";
        let cli = run_with(&format!("{OWN}{off}"), &[]).unwrap();
        for part in ["xdp: Off", "socket_lb: Off", "healthz_bind_address: BindAddress(None)", "node_name: \"n\""] {
            assert!(cli.contains(part), "{part}: {cli}");
        }
        for field in ["xdp: false", "nodeName: true", "podDevice: [true]"] {
            let message = run_with(&format!("{OWN}{field}\n"), &[]).unwrap_err().to_string();
            assert!(message.contains("a value is expected") || message.contains("true"), "{field}: {message}");
        }
        for field in ["takeover: yes", "masqueradeAll: on"] {
            let message = run_with(&format!("{OWN}{field}\n"), &[]).unwrap_err().to_string();
            assert!(message.contains(field.split(':').next().unwrap()), "{field}: {message}");
        }
        let on = run_with(&format!("{OWN}takeover: true\nmasqueradeAll: false\nnodeName: n\nmanifests: /x\n"), &[]);
        let on = on.unwrap();
        assert!(on.contains("takeover: true") && on.contains("masquerade_all: false"), "{on}");
    }

    #[test]
    fn devices_of_detect_local_are_asked_for_in_their_mode_and_refused_when_empty() {
        let run = |args: &[&str]| {
            let all = [&["sluice", "run", "--manifests", "/x", "--node-name", "n"], args].concat();
            grammar().try_get_matches_from(all).map(|_| ()).map_err(|error| error.to_string())
        };
        let missing = run(&["--detect-local", "bridge-interface"]).unwrap_err();
        assert!(missing.contains("--detect-local-bridge <NAME>"), "{missing}");
        let missing = run(&["--detect-local", "interface-name-prefix", "--detect-local-bridge", "cni0"]).unwrap_err();
        assert!(missing.contains("--detect-local-prefix <PREFIX>"), "{missing}");
        let empty = run(&["--detect-local", "interface-name-prefix", "--detect-local-prefix", ""]).unwrap_err();
        assert!(empty.contains("no name of a network device"), "{empty}");
        assert_eq!(run(&["--detect-local", "bridge-interface", "--detect-local-bridge", "cni0"]), Ok(()));
        // Of another mode, it does no harm.
        assert_eq!(run(&["--detect-local-bridge", "cni0"]), Ok(()));
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }
}
