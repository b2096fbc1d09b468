//! The sentences about workers in `stream` mode, and about sources.

use super::map::{numbers, same, says_broken};
use super::subject::{Stop, Subject};
use super::{Bench, Mode, Sentence, formats};
use crate::ipc::Said;

pub(super) const SENTENCES: &[Sentence] = &[
    ("says READY", says_ready),
    ("says BROKEN of a function that is not there, and exits with 1", says_broken),
    ("reads nothing and writes nothing before GO", waits_for_go),
    ("passes each record once, in order", passes_in_order),
    ("passes what it has without waiting for more", does_not_wait),
    ("reads records that come split over reads", takes_split_records),
    ("passes an empty record and a large one", passes_odd_records),
    ("says ERROR of a function that fails, and exits with 1", says_error),
    ("passes what it has at the end of its input, and exits with 0", ends_with_its_input),
    ("ends when the control connection closes", ends_with_the_engine),
];

pub(super) const SOURCE_SENTENCES: &[Sentence] = &[
    ("says READY", says_ready),
    ("writes nothing before GO", source_waits_for_go),
    ("writes all records, in order, and exits with 0", source_writes),
    ("ends when the control connection closes", ends_with_the_engine),
];

fn function(bench: &Bench<'_>) -> &'static str {
    match bench.mode {
        Mode::Map => "echo",
        Mode::Stream => "stream",
        Mode::Source => "count",
    }
}

fn says_ready(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let function = function(bench);
    bench.start(function, |task| task.0["args"] = serde_json::json!([3]))?.until_ready().map(drop)
}

fn waits_for_go(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.start("stream", |_| {})?;
    subject.until_ready()?;
    let records = numbers(3);
    subject.lease(&records);
    subject.stays_silent("nothing on its output before GO")?;
    let all = formats::encode(subject.format(), &records).len();
    match subject.unread()? {
        left if left == all => {}
        left => {
            return subject.fails(format!("{all} bytes of input unread before GO"), format!("{left} unread"));
        }
    }
    subject.go()?;
    let came = subject.records(3)?;
    same(&subject, &came, &records)
}

fn passes(subject: &mut Subject<'_>, records: &[Vec<u8>]) -> Result<(), Stop> {
    subject.lease(records);
    let came = subject.records(records.len() as u64)?;
    same(subject, &came, records)
}

fn passes_in_order(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("stream")?;
    let records = numbers(20_000);
    for block in records.chunks(1000) {
        subject.lease(block);
    }
    let came = subject.records(20_000)?;
    same(&subject, &came, &records)?;
    subject.stays_silent("no record more than there were")
}

fn does_not_wait(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("stream")?;
    for record in numbers(5) {
        passes(&mut subject, &[record])?;
    }
    Ok(())
}

fn takes_split_records(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("stream")?;
    let records = numbers(12);
    for block in records.chunks(4) {
        for piece in formats::encode(subject.format(), block).data.chunks(5) {
            subject.write(piece);
            subject.until("it reads its input", |subject| subject.has_read_all().then_some(()))?;
        }
    }
    let came = subject.records(12)?;
    same(&subject, &came, &records)
}

fn passes_odd_records(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("stream")?;
    passes(&mut subject, &[b"a".to_vec(), Vec::new(), vec![b'x'; 3_000_001], b"b".to_vec()])
}

fn says_error(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("fail_stream")?;
    subject.lease(&numbers(1));
    match subject.next_said("ERROR")? {
        Said::Error(failed) if !failed.reason().is_empty() => subject.exits(1),
        other => subject.fails("ERROR, with an `error`", format!("{other:?}")),
    }
}

fn ends_with_its_input(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("stream")?;
    let records = numbers(500);
    subject.lease(&records);
    subject.end_input()?;
    subject.exits(0)?;
    let came = subject.records(500)?;
    same(&subject, &came, &records)
}

pub(super) fn ends_with_the_engine(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let function = function(bench);
    // Waiting for GO, and, where there is something to wait for, at work.
    for goes in [false, true] {
        if goes && bench.mode == Mode::Source {
            continue;
        }
        let mut subject = bench.start(function, |task| task.0["args"] = serde_json::json!([]))?;
        subject.until_ready()?;
        if goes {
            subject.go()?;
        }
        subject.close_control();
        subject.until_exit("it ends when the engine is gone")?;
    }
    Ok(())
}

fn source_waits_for_go(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.start("count", |task| task.0["args"] = serde_json::json!([3]))?;
    subject.until_ready()?;
    subject.stays_silent("nothing on its output before GO")
}

fn source_writes(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work_with("count", |task| task.0["args"] = serde_json::json!([20_000]))?;
    let came = subject.records(20_000)?;
    same(&subject, &came, &numbers(20_000))?;
    subject.exits(0)
}
