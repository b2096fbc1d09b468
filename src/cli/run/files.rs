//! The files that a run leaves: its report and its events.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use mpflow::observe::{self, EventLog};
use mpflow::report::Report;

use crate::cli::error::CliError;

/// Where the events go.
pub(super) type EventsFile = EventLog<BufWriter<File>>;

/// Makes the events file, empty.
pub(super) fn create_events(path: &Path) -> Result<EventsFile, CliError> {
    let file = File::create(path).map_err(|source| CliError::Create {
        what: "events",
        path: path.to_owned(),
        source,
    })?;
    Ok(EventLog::new(BufWriter::new(file)))
}

/// Where the report goes: a reader sees the old file or the whole new one, never a part.
#[derive(Debug)]
pub(super) struct ReportFile {
    file: File,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A temporary file beside the one that it is to replace.
    Beside { temporary: PathBuf, path: PathBuf },
    /// A device or a named pipe, which must not be replaced.
    Itself,
}

impl ReportFile {
    /// Prepares the place, so that a wrong path is known before the run starts.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        Self::open(path).map_err(|source| CliError::Create {
            what: "the report",
            path: path.to_owned(),
            source,
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        // Follows a symbolic link, so that its target is replaced and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                Ok(Self { file: File::options().write(true).open(&path)?, place: Place::Itself })
            }
            existing => {
                let temporary = beside(&path).ok_or(io::ErrorKind::InvalidFilename)?;
                let file = File::create(&temporary)?;
                if let Ok(metadata) = existing {
                    file.set_permissions(metadata.permissions())?;
                }
                Ok(Self { file, place: Place::Beside { temporary, path } })
            }
        }
    }

    /// Writes the report and puts it in its place.
    pub(super) fn write(self, report: &Report) -> io::Result<()> {
        observe::write_report(BufWriter::new(&self.file), report)?;
        match &self.place {
            Place::Beside { temporary, path } => fs::rename(temporary, path),
            Place::Itself => Ok(()),
        }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Place::Beside { temporary, .. } = &self.place {
            // It is gone where the report was written, and nobody misses it where it was not.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// `.report.json.mpflow-4711`: in the same folder, since a rename does not cross file systems.
fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(format!(".mpflow-{}", std::process::id()));
    Some(path.with_file_name(name))
}
