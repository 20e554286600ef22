//! What flags and environment put over the configuration file: one flag and one variable for every key of the schema.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgMatches, Command, error::ErrorKind};

use crate::config::{At, KEYS, Override};

/// `--config` and a flag for every key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// The file; without one, everything comes from flags and environment.
    pub(crate) config: Option<PathBuf>,
    values: Vec<Override>,
}

impl Overrides {
    /// This file, without flags.
    pub(crate) fn of_file(config: PathBuf) -> Overrides {
        Overrides { config: Some(config), values: Vec::new() }
    }

    /// All of them, the environment's first, so that flags win. `variable` reads the environment.
    pub(crate) fn with_environment(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Vec<Override> {
        let from_environment = KEYS.iter().filter_map(|key| {
            let value = variable(&key.variable()).filter(|value| !value.is_empty())?;
            Some((key.path, At::Environment, value.to_string_lossy().into_owned()))
        });
        from_environment.chain(self.values.iter().cloned()).collect()
    }
}

impl clap::Args for Overrides {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("OUTLAST_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file (TOML); docs/configuration.md describes it");
        KEYS.iter().fold(command.arg(file), |command, key| {
            let Some(flag) = key.flag() else { return command };
            let default = match key.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let heading = key.path.split_once('.').map_or("process", |(section, _)| section);
            command.arg(
                Arg::new(key.path)
                    .long(flag)
                    .value_name("VALUE")
                    .help_heading(format!("Keys: {heading}"))
                    .help(format!("{} [env: {}]{default}", key.help, key.variable())),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Overrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut overrides = Overrides::default();
        overrides.update_from_arg_matches(matches)?;
        Ok(overrides)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let refuse = |error: clap::parser::MatchesError| {
            clap::Error::raw(ErrorKind::InvalidValue, error.to_string())
        };
        self.config = matches.try_get_one::<PathBuf>("config").map_err(refuse)?.cloned();
        for key in KEYS.iter().filter(|key| key.flag().is_some()) {
            if let Some(value) = matches.try_get_one::<String>(key.path).map_err(refuse)? {
                self.values.push((key.path, At::Flag, value.clone()));
            }
        }
        Ok(())
    }
}
