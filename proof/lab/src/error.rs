//! What can go wrong with a lab, in words for whoever asked for it.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{plan::PlanError, shape::ShapeError};

/// Why something could not be done.
#[derive(Debug, Error)]
pub enum LabError {
    /// The plan is not one.
    #[error("the plan")]
    Plan(#[from] PlanError),
    /// This process may not make namespaces or devices. The text says what to do.
    #[error("{0}")]
    Rights(String),
    /// No such site or host.
    #[error("there is no {name:?} in this lab; it has {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Everything that is there.
        known: String,
    },
    /// A site where only a host will do.
    #[error("{0:?} is a site; name one of its hosts, as in {0}.client")]
    NoHost(String),
    /// A link takes two sites or two hosts.
    #[error("a shape is of two sites or of two hosts, not of {0:?} and {1:?}")]
    Mixed(String, String),
    /// A link cannot be so.
    #[error("the shape")]
    Shape(#[from] ShapeError),
    /// No fault there. A fault of a whole site is lifted by the site's name alone.
    #[error("nothing to heal at {0}; the faults are: {1}")]
    NothingToHeal(String, String),
    /// `ip` refused or failed.
    #[error("{command}: {said}")]
    Command {
        /// The program.
        command: String,
        /// What it wrote.
        said: String,
    },
    /// The lab that was asked is gone, refused, or there is none, or more than one.
    #[error("{0}")]
    Control(String),
    /// The system refused.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it did not work.
        source: io::Error,
    },
}

impl LabError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }

    pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = PathBuf::from(path);
        move |source| LabError::Io { what: path.display().to_string(), source }
    }
}
