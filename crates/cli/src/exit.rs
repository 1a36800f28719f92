//! The exit statuses of the program.

use std::process::ExitCode;

/// How the program ends; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: everything went well.
    Fine,
    /// 1: the work was done wrongly, or could not be finished.
    Failed,
    /// 2: the command line, the input file or the configuration is wrong; nothing was done.
    Usage,
    /// 3: the work was done, without the input lines that were rejected.
    Rejected,
    /// 4: the time was over before the work was done.
    TimeOver,
    /// 130: interrupted by a signal, as shells number it; what was begun was closed cleanly.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Rejected => 3,
            Exit::TimeOver => 4,
            Exit::Interrupted => 130,
        })
    }
}
