//! `mpflow shared`: the shared objects of a run, from inside of one of its workers.

mod hold;

use std::time::Duration;

use mpflow::shared::Client;
use serde_json::Value as Json;

use super::error::CliError;
use super::exit::End;
use super::output;

/// Use the shared objects of the run, from inside of one of its workers
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples, as commands of a stage:
  mpflow shared lock screen -- cat banner.txt     one at a time
  mpflow shared lock gpu --timeout 30s -- render  a permit of a semaphore
  mpflow shared add hits 1                        prints the new value
  mpflow shared set grid 3 0.5                    an element of an array
  mpflow shared get settings level                an entry of a dict
  mpflow shared wait go --timeout 10s             an event, or a barrier

Exit codes: that of the command for `lock`; else 0, 1 for what could not be done, 2 for a wrong command line \
or an object that the run does not have, 124 for a time-out. `is-set` ends with 1 where the event is not set.",
    arg_required_else_help = true
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Run a command while holding a lock, or a permit of a semaphore
    ///
    /// It is released when the command ends, and not earlier, even if `mpflow` itself is killed: the command inherits the
    /// connection that holds it. What the command leaves running behind it does not keep it.
    Lock {
        /// The lock or semaphore
        name: String,
        /// Wait at most so long (`250ms`, `30s`; `0` does not wait), then end with 124
        #[arg(long, value_parser = patience)]
        timeout: Option<Duration>,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Print a value, an element of an array, an entry of a dict; or a whole array (a line each) or dict (as JSON)
    Get {
        /// The object
        name: String,
        /// Index or key
        #[arg(value_name = "INDEX|KEY")]
        at: Option<String>,
    },
    /// Write a value, an element of an array or an entry of a dict, or set an event
    ///
    /// A value is JSON, and a text where it is none: `3`, `0.5`, `true`, `'[1, 2]'`, `hello`, `'"3"'`.
    #[command(override_usage = "mpflow shared set NAME [INDEX|KEY] [VALUE]")]
    Set {
        /// The object
        name: String,
        /// Index or key, where it has some, and the value, where it is no event
        #[arg(value_name = "INDEX|KEY|VALUE", num_args = 0..=2, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Add to a value, an element or an entry, and print what it is then; nothing comes in between
    #[command(override_usage = "mpflow shared add NAME [INDEX|KEY] NUMBER")]
    Add {
        /// The object
        name: String,
        /// Index or key, where it has some, and the number to add
        #[arg(value_name = "INDEX|KEY|NUMBER", num_args = 1..=2, required = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Remove an entry of a dict; ends with 1 where there is none
    Delete {
        /// The dict
        name: String,
        /// Its key
        key: String,
    },
    /// Wait for an event, or at a barrier (and print as which party it came, from 0)
    Wait {
        /// The event or barrier
        name: String,
        /// Wait at most so long (`250ms`, `30s`; `0` does not wait), then end with 124. A time-out breaks a barrier
        #[arg(long, value_parser = patience)]
        timeout: Option<Duration>,
    },
    /// Clear an event, or empty a dict
    Clear {
        /// The event or dict
        name: String,
    },
    /// Print whether an event is set; ends with 1 where it is not
    IsSet {
        /// The event
        name: String,
    },
    /// Make a broken barrier whole again
    Reset {
        /// The barrier
        name: String,
    },
    /// Print how all objects stand, or one, a line of JSON each
    List {
        /// The object
        name: Option<String>,
    },
}

/// A duration as the language writes it.
fn patience(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "write a time with its unit: `250ms`, `30s`, `5m`".to_owned())
}

pub(super) fn execute(args: Args) -> Result<End, CliError> {
    let mut client = Client::connect()?;
    match args.verb {
        Verb::Lock { name, timeout, command } => return hold::run(client, &name, timeout, &command),
        Verb::Get { name, at } => output::print(&text(&client.get(&name, at.as_deref())?))?,
        Verb::Set { name, rest } => return set(&mut client, &name, &rest),
        Verb::Add { name, rest } => {
            let (by, at) = rest.split_last().expect("clap asks for one at least");
            output::print(&text(&client.add(&name, at.first().map(String::as_str), &value(by))?))?;
        }
        Verb::Delete { name, key } => return Ok(success_if(client.delete(&name, &key)?)),
        Verb::Wait { name, timeout } => return wait(&mut client, name, timeout),
        Verb::Clear { name } => client.clear(&name)?,
        Verb::IsSet { name } => {
            let is_set = client.is_set(&name)?;
            output::print(&format!("{is_set}\n"))?;
            return Ok(success_if(is_set));
        }
        Verb::Reset { name } => client.reset_barrier(&name)?,
        Verb::List { name } => list(&mut client, name.as_deref())?,
    }
    Ok(End::Success)
}

fn success_if(is_so: bool) -> End {
    if is_so { End::Success } else { End::Failed }
}

fn set(client: &mut Client, name: &str, rest: &[String]) -> Result<End, CliError> {
    match rest {
        [] if client.object(name)?.kind == "event" => client.set_event(name)?,
        [] => return Err(CliError::NoValue(name.to_owned())),
        [one] => client.set(name, None, &value(one))?,
        [at, new, ..] => client.set(name, Some(at), &value(new))?,
    }
    Ok(End::Success)
}

fn wait(client: &mut Client, name: String, timeout: Option<Duration>) -> Result<End, CliError> {
    if client.object(&name)?.kind == "barrier" {
        let index = client.wait_barrier(&name, timeout)?;
        output::print(&format!("{index}\n"))?;
        return Ok(End::Success);
    }
    match client.wait_event(&name, timeout)? {
        true => Ok(End::Success),
        false => Err(CliError::TimedOut { name, what: "was not set", timeout }),
    }
}

fn list(client: &mut Client, name: Option<&str>) -> Result<(), CliError> {
    if let Some(name) = name {
        client.object(name)?;
    }
    let states = client.list()?;
    let wanted = states.iter().filter(|state| name.is_none_or(|name| state["name"] == name));
    let lines: String = wanted.map(|state| format!("{state}\n")).collect();
    output::print(&lines)
}

/// JSON, or else a text.
fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
}

/// As a shell script wants it: texts without quotes, a line for each element of an array.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => format!("{text}\n"),
        Json::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(text).collect()
        }
        other => format!("{other}\n"),
    }
}
