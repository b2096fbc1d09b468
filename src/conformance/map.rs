//! The sentences about workers in `map` mode.

use std::os::fd::AsFd;

use nix::unistd;

use super::subject::{Stop, Subject};
use super::{Bench, Sentence, formats};
use crate::ipc::{Answer, Block, Framing, Said, Say};
use crate::model::Format;
use crate::sys::descriptor;

pub(super) const SENTENCES: &[Sentence] = &[
    ("says READY", says_ready),
    ("says BROKEN of a function that is not there, and exits with 1", says_broken),
    ("takes keys of the task that it does not know for nothing", ignores_unknown_keys),
    ("reads nothing and writes nothing before GO", waits_for_go),
    ("answers each record once, in order", answers_in_order),
    ("answers what it has without waiting for more", does_not_wait),
    ("answers several frames that come at once", takes_frames_at_once),
    ("answers records that come split over reads", takes_split_records),
    ("answers an empty record", answers_an_empty_record),
    ("answers a large record", answers_a_large_record),
    ("answers many small records", answers_many_records),
    ("gives two results of one record, and none", gives_several_results),
    ("says FAILED of each record that fails, and why", fails_each_record),
    ("says what a record is that was leased alone", says_what_a_record_is),
    ("answers the records of one frame together in a batch", answers_a_batch),
    ("takes only the elements of a chunk that are its own", skips_elements),
    ("reads records in a segment, and frees each use", reads_a_segment),
    ("answers what it has at the end of its input, and exits with 0", ends_with_its_input),
    ("ends at the end of an input that had nothing", ends_without_records),
    ("ends when the control connection closes", super::stream::ends_with_the_engine),
];

/// The decimal numbers below `count`, as texts.
pub(super) fn numbers(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_string().into_bytes()).collect()
}

/// Whether these came, shown where they differ.
pub(super) fn same(subject: &Subject<'_>, came: &[Vec<u8>], expected: &[Vec<u8>]) -> Result<(), Stop> {
    if came == expected {
        return Ok(());
    }
    let at = came.iter().zip(expected).position(|(came, expected)| came != expected);
    let at = at.unwrap_or_else(|| came.len().min(expected.len()));
    let show = |records: &[Vec<u8>]| match records.get(at) {
        Some(record) => {
            format!("{} records, number {} of them {}", records.len(), at + 1, super::subject::shown(record))
        }
        None => format!("{} records", records.len()),
    };
    subject.fails(show(expected), show(came))
}

fn says_ready(bench: &mut Bench<'_>) -> Result<(), Stop> {
    bench.start("echo", |_| {})?.until_ready().map(drop)
}

pub(super) fn says_broken(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.start("no_such_function", |_| {})?;
    match subject.next_said("BROKEN")? {
        Said::Broken(broken) if !broken.error.is_empty() => subject.exits(1),
        other => subject.fails("BROKEN, with an `error`", format!("{other:?}")),
    }
}

fn ignores_unknown_keys(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work_with("echo", |task| {
        task.0["unheard_of"] = serde_json::json!({"a": [1, null]});
        task.0["outputs"][0]["unheard_of"] = true.into();
        if let Some(keys) = task.0.as_object_mut() {
            keys.remove("path");
        }
    })?;
    echoes(&mut subject, &numbers(3))
}

fn waits_for_go(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.start("echo", |_| {})?;
    subject.until_ready()?;
    let records = numbers(3);
    subject.lease(&records);
    let before = "nothing on its output before GO";
    subject.stays_silent(before)?;
    let all = formats::encode(subject.format(), &records).len() + 16;
    match subject.unread()? {
        left if left == all => {}
        left => {
            return subject.fails(format!("{all} bytes of input unread before GO"), format!("{left} unread"));
        }
    }
    subject.go()?;
    let came = subject.results(3)?;
    same(&subject, &came, &records)
}

/// These records, leased in one frame, come back.
fn echoes(subject: &mut Subject<'_>, records: &[Vec<u8>]) -> Result<(), Stop> {
    subject.lease(records);
    let came = subject.results(records.len() as u64)?;
    same(subject, &came, records)
}

fn answers_in_order(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    echoes(&mut subject, &numbers(100))?;
    subject.stays_silent("no answer more than there were records")
}

fn does_not_wait(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    for record in numbers(5) {
        echoes(&mut subject, &[record])?;
    }
    Ok(())
}

fn takes_frames_at_once(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let records = numbers(60);
    for frame in records.chunks(7) {
        subject.lease(frame);
    }
    let came = subject.results(60)?;
    same(&subject, &came, &records)
}

fn takes_split_records(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let records = numbers(12);
    for frame in records.chunks(4) {
        let block = formats::encode(subject.format(), frame);
        let bytes = [&crate::ipc::records_header(&block, 1, false)[..], &block.data[..]].concat();
        for piece in bytes.chunks(5) {
            subject.write(piece);
            subject.until("it reads its input", |subject| subject.has_read_all().then_some(()))?;
        }
    }
    let came = subject.results(12)?;
    same(&subject, &came, &records)
}

fn answers_an_empty_record(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    echoes(&mut subject, &[b"a".to_vec(), Vec::new(), Vec::new(), b"b".to_vec()])
}

fn answers_a_large_record(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let large: Vec<u8> = (0..3_000_001).map(|at| b'a' + u8::try_from(at % 26).unwrap_or(0)).collect();
    echoes(&mut subject, &[b"before".to_vec(), large, b"after".to_vec()])
}

fn answers_many_records(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let records = numbers(20_000);
    for frame in records.chunks(1000) {
        subject.lease(frame);
    }
    let came = subject.results(20_000)?;
    same(&subject, &came, &records)
}

fn gives_several_results(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let records = numbers(10);
    {
        let mut subject = bench.work("twice")?;
        subject.lease(&records);
        let came = subject.results(10)?;
        let expected: Vec<_> = records.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
        same(&subject, &came, &expected)?;
    }
    let mut subject = bench.work("nothing")?;
    subject.lease(&records);
    let came = subject.results(10)?;
    same(&subject, &came, &[])
}

fn fails_each_record(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("fail")?;
    subject.lease(&numbers(3));
    for _ in 0..3 {
        let expected = "FAILED, with an `error`, for each of 3 records";
        match subject.next_answer(expected)? {
            Answer::Failed(failed) if !failed.reason().is_empty() => {}
            other => return subject.fails(expected, format!("{other:?}")),
        }
    }
    subject.lease(&numbers(1));
    match subject.next_answer("FAILED for the record of the next frame")? {
        Answer::Failed(_) => subject.end_input()?,
        other => return subject.fails("FAILED for the record of the next frame", format!("{other:?}")),
    }
    subject.exits(0)
}

fn says_what_a_record_is(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let block = formats::encode(subject.format(), &[b"suspect".to_vec()]);
    subject.lease_block(&block, true);
    match subject.next_answer("ABOUT, before the record is answered")? {
        Answer::About(_) | Answer::Leaving => {}
        other => return subject.fails("ABOUT, before the record is answered", format!("{other:?}")),
    }
    let came = subject.results(1)?;
    same(&subject, &came, &[b"suspect".to_vec()])
}

fn answers_a_batch(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work_with("batch", |task| task.0["batch"] = serde_json::json!({"size": 4}))?;
    for records in [numbers(4), numbers(4), numbers(1)] {
        subject.lease(&records);
        let expected = format!("one DONE for the {} records of a frame", records.len());
        let mut came = Vec::new();
        loop {
            match subject.next_answer(&expected)? {
                Answer::Done { records: 0, outputs } => came.extend(outputs),
                Answer::Done { records: answered, outputs } if answered == records.len() as u64 => {
                    came.extend(outputs);
                    break;
                }
                other => return subject.fails(expected, format!("{other:?}")),
            }
        }
        let data: Vec<u8> = came.iter().flat_map(|output| output.block.data.to_vec()).collect();
        let texts = subject.decode(&data)?;
        same(&subject, &texts, &records)?;
    }
    Ok(())
}

fn only_chunks(bench: &Bench<'_>) -> Result<Format, Stop> {
    let format = bench.format();
    match Framing::of(format) {
        Framing::Chunks => Ok(format),
        Framing::EndedBy(_) | Framing::Length => {
            Err(Stop::Untested(format!("the format {} has no chunks", format.as_str())))
        }
    }
}

fn skips_elements(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let format = only_chunks(bench)?;
    let mut subject = bench.work("echo")?;
    let all = numbers(10);
    let body = formats::body(format, &all);
    let data = [formats::chunk(3, 4, &body, None), formats::chunk(9, 1, &body, None)].concat();
    subject.lease_block(&Block::new(data.into(), 5), false);
    let came = subject.results(5)?;
    same(&subject, &came, &[&all[3..7], &all[9..]].concat())
}

fn reads_a_segment(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let format = only_chunks(bench)?;
    let mut subject = bench.start("echo", |_| {})?;
    if !subject.until_ready()?.segments {
        return Err(Stop::Untested("it says that it can receive no segments".to_owned()));
    }
    subject.go()?;
    let records: Vec<Vec<u8>> = (0..3u8).map(|number| vec![b'a' + number; 50_000]).collect();
    let body = formats::body(format, &records);
    let memory = descriptor::sealed_memory(i64::try_from(body.len()).unwrap_or(i64::MAX))?;
    let written = unistd::write(memory.as_fd(), &body)?;
    if written != body.len() {
        return Err(Stop::Untested("this machine has no memory for it".to_owned()));
    }
    let size = body.len() as u64;
    subject.say(&Say::Segment { id: 41, bytes: size }, Some(&memory))?;
    // Two uses of one segment.
    let data =
        [formats::chunk(0, 2, b"", Some((41, size))), formats::chunk(2, 1, b"", Some((41, size)))].concat();
    subject.lease_block(&Block::new(data.into(), 3), false);
    let came = subject.results(3)?;
    same(&subject, &came, &records)?;
    let mut freed = Vec::new();
    while freed.len() < 2 {
        match subject.next_said("FREE of both uses of the segment")? {
            Said::Free(ids) => freed.extend(ids),
            other => return subject.fails("FREE", format!("{other:?}")),
        }
    }
    match freed == [41, 41] {
        true => Ok(()),
        false => subject.fails("FREE of segment 41, two times", format!("FREE of {freed:?}")),
    }
}

fn ends_with_its_input(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    let records = numbers(500);
    subject.lease(&records);
    subject.end_input()?;
    let came = subject.results(500)?;
    same(&subject, &came, &records)?;
    subject.exits(0)
}

fn ends_without_records(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let mut subject = bench.work("echo")?;
    subject.end_input()?;
    subject.exits(0)
}
