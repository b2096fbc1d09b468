//! A run that is watched and steered: its events, live statistics, more workers when work piles up, and an end in time.
//!
//! ```text
//! cargo run --example watch
//! ```

use std::error::Error;
use std::time::Duration;

use crossbeam_channel::{select, tick};
use mpflow::event::EventKind;
use mpflow::pipeline::{Edge, Mode, Stage};
use mpflow::{Engine, Functions, Pipeline, Stdio, Stop};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    mpflow::init(&Functions::new());

    let pipeline = Pipeline::builder("watched")
        .stage("numbers", Stage::command(["seq", "1", "1000000"]))
        .stage("slow", Stage::shell("sleep 0.02; echo done {}").mode(Mode::Each))
        .edge(Edge::queue("numbers -> slow").capacity(100))
        .edge(Edge::queue("slow -> stdout"))
        .build()?;
    let run = Engine::new().stdout(Stdio::Null).start(&pipeline)?;

    let (events, looks) = (run.events(), tick(Duration::from_millis(100)));
    let mut has_grown = false;
    loop {
        select! {
            recv(events) -> event => match event?.kind {
                EventKind::StageReady { stage } => println!("{stage} is ready"),
                EventKind::Stopping { level } => println!("stopping: {level}"),
                EventKind::RunEnded { report } => {
                    println!("ended: {:?}", report.outcome);
                    break;
                }
                _ => {}
            },
            recv(looks) -> _ => {
                let Some(now) = run.snapshot() else { continue };
                let slow = now.stages.iter().find(|stage| stage.stage == "slow").expect("it is declared");
                if now.edges.iter().any(|edge| edge.is_full) && !has_grown {
                    run.scale("slow", 4)?;
                    println!("the queue was full: four workers");
                    has_grown = true;
                }
                if slow.records_out >= 20 {
                    // `Drain` would finish all that is in flight: the source is far ahead.
                    run.stop(Stop::Terminate);
                }
            }
        }
    }
    let report = run.wait();
    for edge in &report.edges {
        let discarded: u64 = edge.discarded.iter().map(|part| part.records).sum();
        assert_eq!(edge.records_in, edge.delivered + edge.failed + edge.dropped + discarded);
    }
    println!("the books balance");
    Ok(())
}
