//! What can be wrong with a graph, one kind of mistake per file. Every check looks at the whole pipeline and
//! adds what it finds, so that all mistakes are reported together, in a fixed order.

mod cycles;
mod daemons;
mod dependencies;
mod edges;
pub(super) mod formats;
mod inputs;
mod pipes;
pub(super) mod ports;
mod redirects;
mod routing;

use super::resolve::Net;
use crate::model::Problem;

/// Everything that is wrong with a graph whose names are resolved, but for its formats.
pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    edges::check(net, problems);
    pipes::check(net, problems);
    redirects::check(net, problems);
    inputs::check(net, problems);
    routing::check(net, problems);
    dependencies::check(net, problems);
    daemons::check(net, problems);
    cycles::check(net, problems);
}
