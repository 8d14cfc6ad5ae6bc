//! Archives of text files: `tar.gz`, written and read.

use std::io::{self, Read as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, Header};

/// A file of an archive: its path and what is in it.
pub(in crate::cli) type File = (String, Vec<u8>);

/// Packs the files below a folder of this name. `mtime`: seconds since the epoch.
pub(in crate::cli) fn packed(folder: &str, files: &[File], mtime: i64) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(0));
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        builder.append_data(&mut header, format!("{folder}/{path}"), &content[..])?;
    }
    builder.into_inner()?.finish()
}

/// The files of an archive, without the folder that they are in.
pub(in crate::cli) fn unpacked(archive: &[u8]) -> io::Result<Vec<File>> {
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut files = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let (_, path) = path.split_once('/').unwrap_or(("", &path));
        let (path, mut content) = (path.to_owned(), Vec::new());
        entry.read_to_end(&mut content)?;
        files.push((path, content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let files = vec![("a.txt".to_owned(), b"a".to_vec()), ("b/c.txt".to_owned(), vec![])];
        let archive = packed("dump", &files, 1).unwrap();
        assert_eq!(unpacked(&archive).unwrap(), files);
        assert!(unpacked(b"no archive").is_err());
    }
}
