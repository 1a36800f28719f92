//! The program's first command, as a reader of the README runs it.

use crate::workspace::{Failure, Workspace};

/// Builds the release program and runs the demo; its exit status says whether an event was lost, doubled or disordered.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    workspace.finish(
        &mut workspace.cargo("run --release -- demo --json"),
        "its report above says what was lost, doubled, out of order or rejected",
    )
}
