//! What flags and environment put over the configuration file: one flag and one variable for every key of the schema.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgMatches, Command, error::ErrorKind};

use crate::config::{At, KEYS, Key, Override, is_about_directory};

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

    /// The same with one more flag.
    pub(crate) fn with(mut self, path: &'static str, value: &str) -> Overrides {
        self.values.push((path, At::Flag, value.to_owned()));
        self
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

/// `--config`, and a flag for every key that is about the directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectoryOverrides(pub(crate) Overrides);

fn flags(command: Command, wanted: impl Fn(&Key) -> bool) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("OUTLAST_CONFIG")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file (TOML); docs/configuration.md describes it");
    KEYS.iter().filter(|key| wanted(key)).fold(command.arg(file), |command, key| {
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

fn given(matches: &ArgMatches, wanted: impl Fn(&Key) -> bool) -> Result<Overrides, clap::Error> {
    let refuse = |error: clap::parser::MatchesError| {
        clap::Error::raw(ErrorKind::InvalidValue, error.to_string())
    };
    let config = matches.try_get_one::<PathBuf>("config").map_err(refuse)?.cloned();
    let mut values = Vec::new();
    for key in KEYS.iter().filter(|key| wanted(key) && key.flag().is_some()) {
        if let Some(value) = matches.try_get_one::<String>(key.path).map_err(refuse)? {
            values.push((key.path, At::Flag, value.clone()));
        }
    }
    Ok(Overrides { config, values })
}

impl clap::Args for Overrides {
    fn augment_args(command: Command) -> Command {
        flags(command, |_| true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Overrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        given(matches, |_| true)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = given(matches, |_| true)?;
        Ok(())
    }
}

impl clap::Args for DirectoryOverrides {
    fn augment_args(command: Command) -> Command {
        flags(command, |key| is_about_directory(key.path))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for DirectoryOverrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        given(matches, |key| is_about_directory(key.path)).map(DirectoryOverrides)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
