//! Capacities of the maps, as flags of `sluice run`: one for each table of the catalogue that has one.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use lb_common::abi::table::{Flag, Size, Table};
use lb_common::abi::tables;

use crate::load::MapSizes;

/// Capacities that were given, by the name of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct SizeArgs(BTreeMap<&'static str, u32>);

fn flags() -> impl Iterator<Item = (&'static Table, Flag)> {
    tables::all().filter_map(|table| Some((table, table.flag?)))
}

/// As the derive would call it, so that other sources of settings find it.
fn id(flag: Flag) -> String {
    flag.long().replace('-', "_")
}

fn arg((table, flag): (&'static Table, Flag)) -> Arg {
    // Counters may not be wanted at all; any other table needs an entry.
    let least = i64::from(!matches!(table.size, Size::UpTo(_)));
    let default = match table.size {
        Size::Constant(entries) => entries.to_string(),
        _ => "derived from node memory".to_owned(),
    };
    Arg::new(id(flag))
        .long(flag.long())
        .value_name("N")
        .value_parser(value_parser!(u32).range(least..))
        .help(format!("{}. Default: {default}; another one is taken at the next start", flag.help))
}

impl Args for SizeArgs {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SizeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(table, flag): (&'static Table, Flag)| Some((table.name(), *matches.get_one::<u32>(&id(flag))?));
        Ok(Self(flags().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

impl SizeArgs {
    /// These sizes where they are given, else `sizes`.
    pub(super) fn over(&self, mut sizes: MapSizes) -> MapSizes {
        for (table, _) in flags() {
            let given = self.0.get(table.name()).copied();
            let entries = match table.size {
                Size::UpTo(other) => given.or(self.0.get(other).copied()),
                _ => given,
            };
            if let Some(entries) = entries {
                // A map has at least one entry; that of a counted backend is id 0, which is no backend's.
                sizes.set(table, entries.max(1));
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(arguments: &[&str]) -> Result<MapSizes, clap::Error> {
        let command = SizeArgs::augment_args(Command::new("run").no_binary_name(true));
        let args = SizeArgs::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
        Ok(args.over(MapSizes::for_memory(4 << 30)))
    }

    #[test]
    fn a_flag_sets_both_families_and_what_follows_the_table() {
        let sizes = sizes(&["--max-flows", "100", "--max-services", "7"]).unwrap();
        let of = |map| sizes.of(map).unwrap();
        assert_eq!((of("FLOWS4"), of("FLOWS6"), of("NAMES"), of("TOTALS")), (100, 100, 7, 7));
        assert_eq!(Some(of("SLOTS4")), MapSizes::for_memory(4 << 30).of("SLOTS4"));
    }

    #[test]
    fn no_more_backends_are_counted_than_there_is_room_for_unless_asked_for() {
        assert_eq!(sizes(&["--max-backends", "100"]).unwrap().of("STATS4"), Some(100));
        assert_eq!(sizes(&["--max-counted-backends", "0"]).unwrap().of("STATS6"), Some(1));
    }

    #[test]
    fn a_map_without_entries_is_refused() {
        let error = sizes(&["--max-flows", "0"]).unwrap_err().to_string();
        assert!(error.contains("--max-flows"), "{error}");
    }
}
