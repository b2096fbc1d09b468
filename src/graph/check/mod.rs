//! What can be wrong with a graph, one kind of mistake per file. Every check looks at the whole pipeline and
//! adds what it finds, so that all mistakes are reported together, in a fixed order.
//!
//! | code | what is wrong |
//! |---|---|
//! | `mpflow::unknown_stage` | an edge or a dependency names a stage that does not exist |
//! | `mpflow::duplicate_stage` | two stages have one name (only in pipelines built in code) |
//! | `mpflow::unknown_port` | a port that the stage does not have, misspelt or of the wrong direction |
//! | `mpflow::port_mode` | a second input of an `each` stage |
//! | `mpflow::no_stage` | `stdin -> stdout` |
//! | `mpflow::duplicate_edge` | the same edge twice |
//! | `mpflow::pipe_end` | a pipe where there is no process, or where records are leased |
//! | `mpflow::pipe_shared` | a port with a pipe and another edge |
//! | `mpflow::pipe_name` | two pipes that a worker would find by one name |
//! | `mpflow::pipe_width` | a pipe between pools of different widths |
//! | `mpflow::pipe_restart` | a worker that would restart without the other end of its pipe |
//! | `mpflow::elastic_pool` | a pipe, `partition_by` or `to_each` with a pool that grows and shrinks |
//! | `mpflow::redirect_conflict` | a port with a file and an edge |
//! | `mpflow::redirect_leased` | leased results that would go straight to a file |
//! | `mpflow::redirect_function` | a function with a file |
//! | `mpflow::no_input` | a `map` or `each` stage with no records to take |
//! | `mpflow::routing` | `partition_by` or `to_each` where it cannot be |
//! | `mpflow::partition_key` | a key that is neither a JSON pointer nor a field from 1 |
//! | `mpflow::partition_format` | a key that the queue's format does not have |
//! | `mpflow::mixed_partition` | partitioned and other queues into one port |
//! | `mpflow::daemon_feeds` | a daemon that feeds what is no daemon |
//! | `mpflow::daemon_never_finishes` | a dependency on the end of a daemon |
//! | `mpflow::cycle` | edges that lead back, or stages that wait for one another |
//! | `mpflow::may_block` | a warning: a consumer that starts only after what feeds it has finished |
//! | `mpflow::format_unsupported` | a format that one end cannot have |
//! | `mpflow::format_conflict` | a port with two formats |

mod cycles;
mod daemons;
mod dependencies;
mod edges;
pub(super) mod formats;
mod inputs;
mod pipes;
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
