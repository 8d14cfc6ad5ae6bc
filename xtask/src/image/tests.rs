//! Archives made of stand-ins for the agent, read back.

use super::archive::{Content, Facts, PROGRAM, write};
use super::check::check;
use super::{Arch, layer};

/// The smallest file that is a static program: an ELF header and one segment.
fn program(arch: Arch, segment: u32) -> Vec<u8> {
    let mut bytes = vec![0_u8; 64 + 56];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &2_u16.to_le_bytes());
    put(18, &arch.elf_machine().to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    put(58, &64_u16.to_le_bytes());
    put(64, &segment.to_le_bytes());
    bytes
}

fn facts() -> Facts {
    Facts { name: "example.org/sluice:v1".into(), version: "1.0".into(), revision: "abc".into(), epoch: 1_700_000_000 }
}

fn content(arch: Arch, program: Vec<u8>) -> Content {
    let file = |path: &str, content| layer::File { path: path.into(), mode: 0o755, content };
    Content { arch, files: vec![file("usr/share/doc/x", b"x".to_vec()), file(PROGRAM, program)] }
}

fn good(arch: Arch) -> Content {
    content(arch, program(arch, object::elf::PT_LOAD))
}

fn why(contents: &[Content]) -> String {
    format!("{:#}", check(&write(&facts(), contents).unwrap()).unwrap_err())
}

#[test]
fn an_image_is_read_back_as_it_was_written_and_twice_the_same() {
    let archive = write(&facts(), &[good(Arch::Amd64)]).unwrap();
    assert_eq!(archive, write(&facts(), &[good(Arch::Amd64)]).unwrap());
    let checked = check(&archive).unwrap();
    assert_eq!(checked.name, "example.org/sluice:v1");
    let (arch, root) = &checked.roots[0];
    assert_eq!((*arch, checked.roots.len()), (Arch::Amd64, 1));
    assert_eq!(root.keys().collect::<Vec<_>>(), [PROGRAM, "usr/share/doc/x"]);
}

#[test]
fn one_archive_holds_an_image_for_each_processor() {
    let checked = check(&write(&facts(), &[good(Arch::Amd64), good(Arch::Arm64)]).unwrap()).unwrap();
    assert_eq!(checked.roots.iter().map(|(arch, _)| *arch).collect::<Vec<_>>(), [Arch::Amd64, Arch::Arm64]);
}

#[test]
fn a_program_that_needs_more_than_itself_or_another_processor_is_refused() {
    assert!(why(&[content(Arch::Amd64, program(Arch::Arm64, 1))]).contains("another processor than amd64"));
    assert!(why(&[content(Arch::Amd64, program(Arch::Amd64, object::elf::PT_INTERP))]).contains("a dynamic linker"));
    assert!(why(&[content(Arch::Amd64, vec![0; 30_000_001])]).contains("30 MB"));
    assert!(why(&[content(Arch::Amd64, b"#!/bin/sh\n".to_vec())]).contains("no ELF file"));
}

#[test]
fn a_changed_byte_is_noticed() {
    let archive = write(&facts(), &[good(Arch::Amd64)]).unwrap();
    // One in the middle of each blob, which are in blocks of 512 bytes after their headers.
    let mut noticed = 0;
    for at in (0..archive.len()).step_by(512).filter(|at| archive[*at..].starts_with(b"blobs/sha256/")) {
        let mut changed = archive.clone();
        changed[at + 512 + 20] ^= 1;
        noticed += usize::from(changed != archive && check(&changed).is_err());
    }
    // The entry of the folder itself has nothing in it: what is changed there is the next header's name.
    assert_eq!(noticed, 4);
}

#[test]
fn everything_is_roots_and_of_the_commits_date() {
    let archive = layer::archive(&good(Arch::Amd64).files, 1_700_000_000).unwrap();
    let mut paths = Vec::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 1_700_000_000));
        paths.push(entry.path().unwrap().to_string_lossy().into_owned());
    }
    assert_eq!(paths, ["usr/", "usr/bin/", PROGRAM, "usr/share/", "usr/share/doc/", "usr/share/doc/x"]);
}
