//! What a run has left in its folder for those whom it cannot answer, since it is suspended.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::server::About;

/// The file in the run's folder, beside the socket.
const FILE: &str = "about";

/// What a run says of itself once and for all. Who it is, its process, is not among it: that is the kernel's to say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LeftAbout {
    pub(super) pipeline: Option<String>,
    pub(super) file: Option<PathBuf>,
}

impl LeftAbout {
    /// Leaves it in the run's folder, before there is a socket that somebody may find silent.
    pub(super) fn write(about: &About, folder: &Path) {
        let file = about.file_as_text().map(|file| PathBuf::from(file.as_ref()));
        let left = Self { pipeline: Some(about.pipeline.clone()), file };
        let text = serde_json::to_vec(&left).expect("its keys are strings and its paths are text");
        // On a full disk the run can be steered all the same.
        if let Err(error) = fs::write(folder.join(FILE), text) {
            tracing::debug!(%error, "cannot leave a word about this run");
        }
    }

    /// What is there; nothing where it is not, as of a run that does not open its socket.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Takes it away.
    pub(super) fn remove(folder: &Path) {
        // The folder goes as well, soon.
        let _ = fs::remove_file(folder.join(FILE));
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_left_is_read_whatever_the_document_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let about = About {
            run_id: String::new(),
            pipeline: "squares".to_owned(),
            file: Some(OsStr::from_bytes(b"/tmp/\xff.yaml").into()),
            began_at: Instant::now(),
            reloads: None,
        };
        LeftAbout::write(&about, folder.path());
        let left = LeftAbout::read(folder.path());
        assert_eq!(left.pipeline.as_deref(), Some("squares"));
        assert_eq!(left.file, Some(PathBuf::from("/tmp/\u{fffd}.yaml")));
        LeftAbout::remove(folder.path());
        assert_eq!(LeftAbout::read(folder.path()).pipeline, None);
    }
}
