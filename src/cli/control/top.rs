//! `mpflow top`: a run, looked at again and again.

use std::io::{self, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, never, select};
use mpflow::control::{Client, ClientError};
use mpflow::observe::{Colour, Look, StatusTable};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use super::RunArgument;
use crate::cli::error::CliError;
use crate::cli::exit::End;
use crate::cli::output::{self, Format, print_json_line, print_lines};
use crate::cli::terminal;

/// Another screen than that of the shell, without a cursor and without wrapping; and back: xterm's DECSET 1049, 25, 7.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Ctrl-C and Ctrl-D, as bytes.
const ENDS: [u8; 4] = [b'q', b'Q', 3, 4];

/// Show how a run is, again and again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow top
  mpflow top squares --every 250ms
  mpflow top --format json | jq -c '[.t, .stages[].rate]'

`q` ends it. Where standard output is no terminal each look is written below the last.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = every)]
    every: Duration,
    /// How it is written: for people, or a JSON document a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Faster than this nobody can read, and each look costs the machine something.
const FASTEST: Duration = Duration::from_millis(50);

fn every(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= FASTEST => Ok(time),
        Ok(_) => Err("look every 50ms at most".to_owned()),
        Err(error) => Err(format!("{error}; write `250ms` or `2s`")),
    }
}

pub(in crate::cli) fn execute(args: &Args) -> Result<End, CliError> {
    let (mut client, info) = args.run.find()?;
    let is_live = args.format == Format::Text && terminal::stdout().is_terminal;
    let shown = if is_live { on_screen(&mut client, args.every)? } else { below(&mut client, args)? };
    if shown == Shown::Ended && args.format == Format::Text {
        output::print(&format!("{} ({}) has ended\n", info.pipeline, info.id))?;
    }
    Ok(End::Success)
}

/// Why it is not shown any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Whoever looked has seen enough.
    Enough,
    /// The run has ended.
    Ended,
}

/// Each look below the last.
fn below(client: &mut Client, args: &Args) -> Result<Shown, CliError> {
    let mut table = StatusTable::default();
    while look(client, &mut table)? {
        match args.format {
            Format::Json => print_json_line(&table.json())?,
            Format::Text => {
                print_lines(&table.lines(terminal::stdout()))?;
                output::print("\n")?;
            }
        }
        thread::sleep(args.every);
    }
    Ok(Shown::Ended)
}

/// Each look in the place of the last.
fn on_screen(client: &mut Client, every: Duration) -> Result<Shown, CliError> {
    let mut table = StatusTable::default();
    if !look(client, &mut table)? {
        return Ok(Shown::Ended);
    }
    let _screen = Screen::enter()?;
    let mut keys = keys()?;
    loop {
        draw(&table)?;
        let tick = after(every);
        select! {
            recv(keys) -> key => match key {
                Ok(key) if ENDS.contains(&key) => return Ok(Shown::Enough),
                // Any other key: look now. Nobody is there who could press one where there is no terminal.
                Ok(_) => {}
                Err(_) => keys = never(),
            },
            recv(tick) -> _ => {}
        }
        if !look(client, &mut table)? {
            return Ok(Shown::Ended);
        }
    }
}

/// Takes one look. `false`: the run has ended.
fn look(client: &mut Client, table: &mut StatusTable) -> Result<bool, CliError> {
    match client.status() {
        Ok(status) => {
            table.update(status);
            Ok(true)
        }
        Err(ClientError::Ended) => Ok(false),
        Err(ClientError::Refused(refusal)) if refusal.has_ended() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// As much as there is room for, from the top left.
fn draw(table: &StatusTable) -> Result<(), CliError> {
    let look = terminal::stdout();
    let lines = fitting(table.lines(look), terminal::stdout_rows().saturating_sub(1), look);
    output::print(&over(&lines, look))
}

/// Each line over the one that was there.
fn over(lines: &[String], look: Look) -> String {
    // What was there goes first: at the end of a full line the cursor stands on its last character, not after it. And
    // the terminal does not wrap now: what has no room has to be seen to be missing.
    let lines = lines.iter().map(|line| format!("\x1b[K{}\r\n", look.cut_line(line, look.width)));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

/// The first of these lines, as many as fit; where others are missing, the last says how many.
fn fitting(mut lines: Vec<String>, room: usize, look: Look) -> Vec<String> {
    if lines.len() > room && room > 0 {
        let missing = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(
            look.paint(Colour::Dim, &format!("and {missing} lines more: a higher terminal shows them")),
        );
    }
    lines.truncate(room);
    lines
}

/// The keys that are pressed, until the terminal is gone.
fn keys() -> Result<Receiver<u8>, CliError> {
    let (sender, keys) = crossbeam_channel::unbounded();
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
                if buffer[..count].iter().any(|&key| sender.send(key).is_err()) {
                    return;
                }
            }
        })
        .map_err(CliError::Thread)?;
    Ok(keys)
}

/// The terminal while this has it. Dropped, it is as it was.
struct Screen {
    before: Option<Termios>,
}

impl Screen {
    fn enter() -> Result<Self, CliError> {
        // Keys come one by one and are not shown. Where standard input is no terminal there are none.
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(mut mode) = before.clone() {
            mode.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &mode);
        }
        let screen = Self { before };
        output::print(ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told when this cannot be done.
        let _ = io::stdout().lock().write_all(LEAVE.as_bytes()).and_then(|()| io::stdout().flush());
        if let Some(mode) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, mode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_low_terminal_has_no_room_for_is_counted() {
        let lines = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(fitting(lines(3), 3, Look::PLAIN), ["0", "1", "2"]);
        assert_eq!(
            fitting(lines(5), 3, Look::PLAIN),
            ["0", "1", "and 3 lines more: a higher terminal shows them"]
        );
        assert!(fitting(lines(5), 0, Look::PLAIN).is_empty());
    }

    #[test]
    fn a_line_as_wide_as_the_terminal_keeps_its_last_character() {
        let look = Look { width: 4, ..Look::PLAIN };
        let lines = ["1473".to_owned(), "14730".to_owned()];
        assert_eq!(over(&lines, look), "\x1b[H\x1b[K1473\r\n\x1b[K147…\r\n\x1b[J");
    }
}
