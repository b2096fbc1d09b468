//! `mpflow run --watch`: one run after the other, as the files change.

use crossbeam_channel::{Receiver, select};
use mpflow::language::Diagnostics;
use mpflow::watch::Told;
use mpflow::{Engine, StartError};

use super::drive::said;
use super::reloader::Reloader;
use super::signals::{self, Request};
use super::{Args, Ended, Files, progress_for, start};
use crate::cli::error::CliError;
use crate::cli::exit::{End, Interrupt};
use crate::cli::show;

/// Runs the pipeline again and again: until a signal ends it.
pub(super) fn execute(args: &Args, engine: &Engine, mut reloader: Reloader<'_>) -> Result<End, CliError> {
    let mut files = Files::create(args)?;
    let requests = signals::catch()?;
    mpflow::adopt_orphans().map_err(StartError::System)?;
    reloader.watch(args.poll)?;
    loop {
        match reloader.load()? {
            Err(diagnostics) => {
                show::diagnostics(&diagnostics);
                show::notice("the pipeline is wrong; waiting for a change of its files");
            }
            Ok(pipeline) => {
                let progress = progress_for(args, &pipeline);
                if files.report.is_none() {
                    files.report = Files::report(args)?;
                }
                let run = start(engine, &pipeline, progress, &mut files, &requests, &mut reloader)?;
                // By a signal, or by `mpflow stop`, whatever came of it.
                if run.interrupt.is_some() || run.was_stopped {
                    return files.close(&requests, run);
                }
                show::diagnostics(&run.wrong);
                show::notice("waiting for a change of the files; Ctrl-C ends it");
            }
        }
        if let Some(interrupt) = wait_for_change(&mut reloader, &requests)? {
            let (end, wrong) = (End::Interrupted(interrupt), Diagnostics::default());
            let ended = Ended { end, interrupt: Some(interrupt), was_stopped: false, wrong };
            return files.close(&requests, ended);
        }
    }
}

/// Waits until a file has changed, or somebody asks for a reload, or for the end.
fn wait_for_change(
    reloader: &mut Reloader<'_>,
    requests: &Receiver<Request>,
) -> Result<Option<Interrupt>, CliError> {
    let told = reloader.told();
    loop {
        select! {
            recv(told) -> told => match told {
                Ok(Told::Changed(changed)) => {
                    show::notice(&said(&Told::Changed(changed)));
                    return Ok(None);
                }
                Ok(other) => show::notice(&said(&other)),
                Err(_) => return Ok(None),
            },
            recv(requests) -> request => match request {
                Ok(Request::End(interrupt)) => return Ok(Some(interrupt)),
                Ok(Request::Reload) => return Ok(None),
                Ok(Request::Suspend) => drop(signals::stop_ourselves()),
                Ok(Request::Explain | Request::Continue) => {}
                Err(_) => return Ok(Some(Interrupt::Term)),
            },
        }
    }
}
