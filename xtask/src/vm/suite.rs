//! The test programs, and which of their tests are worth a slow machine's time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::kernels::Kernel;
use crate::build;
use crate::command::{cargo, output};

/// One test program.
struct Program {
    package: &'static str,
    name: &'static str,
    /// Tests by parts of their names; none: all.
    tests: &'static [&'static str],
    threads: u32,
}

const PROGRAMS: &[Program] = &[
    Program { package: "lb-userspace", name: "kernel", tests: &[], threads: 2 },
    Program { package: "lb-userspace", name: "sockets", tests: &[], threads: 2 },
    Program { package: "lb-userspace", name: "attach", tests: &[], threads: 2 },
    Program {
        package: "xtask",
        name: "node",
        tests: &[
            "matrix::every_frontend_leads_every_client_to_every_pod",
            "matrix::a_pod_reaches_itself",
            "refusal::",
            "crash::",
            "tunnel::",
            "sockets_reach::",
            "kernel::",
        ],
        threads: 1,
    },
];

/// What a guest is given: a path on the host, a path in the guest.
pub(super) struct Built {
    /// Programs, which need their libraries beside them.
    pub(super) programs: Vec<(PathBuf, String)>,
    /// The kernel programs.
    pub(super) object: PathBuf,
}

/// Builds the test programs.
pub(super) fn build(agent: &Path) -> Result<Built> {
    let mut programs = vec![(agent.to_owned(), "bin/sluice".to_owned())];
    for package in ["lb-userspace", "xtask"] {
        let mut command = cargo("test");
        command.args(["--no-run", "--message-format", "json-render-diagnostics", "--package", package]);
        let names: Vec<_> = PROGRAMS.iter().filter(|p| p.package == package).map(|p| p.name).collect();
        command.args(names.iter().flat_map(|name| ["--test", name]));
        let messages = output(command.stderr(std::process::Stdio::inherit()))?;
        for name in names {
            programs.push((executable(&messages, name)?, format!("t/{name}")));
        }
    }
    Ok(Built { programs, object: build::bpf_object_path() })
}

/// The test program of this name, as cargo's messages tell.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let own = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
        own.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    built.with_context(|| format!("cargo built no test program {name}"))
}

/// The guest's script: a line for each program that has tests for this kernel.
pub(super) fn script(kernel: &Kernel, only: &[String]) -> Result<String> {
    let mut script = vec!["failed=0".to_owned()];
    for program in PROGRAMS {
        let mut line = format!("/t/{} --test-threads={}", program.name, program.threads);
        let without = kernel.without.iter().filter(|without| without.program == program.name);
        let mut all = false;
        for without in without {
            let what = if without.tests.contains(&"") { "all tests".to_owned() } else { without.tests.join(", ") };
            script.push(format!("echo 'left out of {}, {}: {what}'", program.name, without.why));
            all |= without.tests.contains(&"");
            line.extend(without.tests.iter().map(|test| format!(" --skip {test}")));
        }
        let names: Vec<&str> =
            if only.is_empty() { program.tests.to_vec() } else { only.iter().map(String::as_str).collect() };
        for name in names {
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)) {
                bail!("{name:?} is no part of a test's name");
            }
            line = line + " " + name;
        }
        if !all {
            script.push(format!("echo '-- {}'", program.name));
            script.push(format!("{line} || failed=1"));
        }
    }
    script.push("echo \"guest: done $failed\"\n".to_owned());
    Ok(script.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::kernels::KERNELS;
    use super::*;

    #[test]
    fn script_names_what_is_left_out_and_why() {
        for kernel in KERNELS {
            let script = script(kernel, &[]).unwrap();
            for without in kernel.without {
                assert!(script.contains(without.why), "{script}");
                assert!(PROGRAMS.iter().any(|program| program.name == without.program));
            }
            assert!(script.lines().all(|line| line.matches('\'').count() % 2 == 0), "{script}");
        }
    }

    #[test]
    fn names_of_tests_are_no_place_for_a_shells_words() {
        assert!(script(&KERNELS[0], &["x; reboot".into()]).is_err());
        assert!(script(&KERNELS[0], &["matrix::every".into()]).unwrap().contains(" matrix::every"));
    }

    #[test]
    fn executable_is_found_among_cargos_messages() {
        let messages = "not json\n{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"node\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"node\"},\"executable\":\"/x/node-1\"}\n";
        assert_eq!(executable(messages, "node").unwrap(), Path::new("/x/node-1"));
        assert!(executable(messages, "attach").is_err());
    }
}
