//! The Debian package: the agent as a unit of systemd. It is written here, since `dpkg-deb` is not everywhere.

use anyhow::{Context, Result};

use crate::image::Arch;
use crate::image::layer::{File, archive, gzip};

/// Its control file's description, and what goes below it.
const DESCRIPTION: &str = "eBPF load balancer for Kubernetes Services
 Serves Services on this node by eBPF programs in place of kube-proxy's
 netfilter rules: those of a cluster, or of a folder of manifests.";

/// Files that the administrator owns once they are there.
const CONFFILES: &str = "/etc/sluice/sluice.yaml\n";

/// A new version is started only where the old one ran: installing alone changes nothing on the node.
const AFTER_INSTALL: &str = "#!/bin/sh
set -e
if [ \"$1\" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    [ -z \"$2\" ] || systemctl try-restart sluice.service
fi
";

/// The agent ends; what is in the kernel goes on working until `sluice cleanup`.
const BEFORE_REMOVAL: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now sluice.service
    echo 'sluice: what is in the kernel goes on working; to end it, run `sluice cleanup` before the package goes' >&2
fi
";

/// What is packed.
#[derive(Clone, Debug)]
pub(super) struct Package<'a> {
    pub(super) arch: Arch,
    pub(super) version: &'a str,
    pub(super) epoch: u64,
    pub(super) program: Vec<u8>,
    pub(super) unit: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) copyright: Vec<u8>,
}

/// The package's file name, by Debian's convention.
pub(super) fn name(version: &str, arch: Arch) -> String {
    format!("sluice_{version}_{arch}.deb")
}

/// The package: the same input gives the same bytes.
pub(super) fn write(package: Package<'_>) -> Result<Vec<u8>> {
    let Package { arch, version, epoch, program, unit, config, copyright } = package;
    let file = |path: &str, mode: u32, content: Vec<u8>| File { path: path.to_owned(), mode, content };
    let readme = b"Manifests of Services and EndpointSlices: *.yaml, *.yml and *.json.\n".to_vec();
    let data = [
        file("usr/bin/sluice", 0o755, program),
        file("usr/lib/systemd/system/sluice.service", 0o644, unit),
        file("etc/sluice/sluice.yaml", 0o644, config),
        file("etc/sluice/manifests/README", 0o644, readme),
        file("usr/share/doc/sluice/copyright", 0o644, copyright),
    ];
    let kib = data.iter().map(|file| file.content.len().div_ceil(1024)).sum::<usize>();
    let control = format!(
        "Package: sluice\nVersion: {version}\nArchitecture: {arch}\nMaintainer: Sluice <{}>\nInstalled-Size: {kib}\n\
         Section: net\nPriority: optional\nHomepage: {}\nDescription: {DESCRIPTION}\n",
        "maintainers@sluice-lb.io",
        env!("CARGO_PKG_REPOSITORY"),
    );
    let control = [
        file("control", 0o644, control.into_bytes()),
        file("conffiles", 0o644, CONFFILES.into()),
        file("postinst", 0o755, AFTER_INSTALL.into()),
        file("prerm", 0o755, BEFORE_REMOVAL.into()),
    ];
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&archive(&control, epoch)?)?),
        ("data.tar.gz", gzip(&archive(&data, epoch)?)?),
    ];
    let mut deb = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(epoch);
        deb.append(&header, content.as_slice()).with_context(|| format!("adding {name} to the package"))?;
    }
    Ok(deb.into_inner()?)
}

/// What Debian calls a copyright file: one licence or the other.
pub(super) fn copyright(apache: &str, mit: &str) -> Vec<u8> {
    format!("Licence: Apache-2.0 OR MIT, at your choice. Source: {}\n\n{apache}\n\n{mit}", env!("CARGO_PKG_REPOSITORY"))
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn package() -> Vec<u8> {
        let text = |text: &str| text.as_bytes().to_vec();
        let package = Package {
            arch: Arch::Arm64,
            version: "1.2.3",
            epoch: 1_700_000_000,
            program: vec![1; 5000],
            unit: text("[Service]\n"),
            config: text("kind: SluiceConfiguration\n"),
            copyright: copyright("A", "M"),
        };
        write(package).unwrap()
    }

    #[test]
    fn a_package_has_the_three_members_in_their_order_and_twice_the_same() {
        let bytes = package();
        assert_eq!(bytes, package());
        let mut archive = ar::Archive::new(bytes.as_slice());
        let mut members = Vec::new();
        let mut text = String::new();
        while let Some(member) = archive.next_entry() {
            let mut member = member.unwrap();
            let name = String::from_utf8(member.header().identifier().to_vec()).unwrap();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            if name.contains(".tar.") {
                let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(content.as_slice()));
                for entry in tar.entries().unwrap() {
                    let mut entry = entry.unwrap();
                    members.push(format!("{name}: {}", entry.path().unwrap().display()));
                    if entry.path().unwrap().ends_with("control") {
                        entry.read_to_string(&mut text).unwrap();
                    }
                }
            } else {
                members.push(name);
            }
        }
        assert_eq!(members[..3], ["debian-binary", "control.tar.gz: conffiles", "control.tar.gz: control"]);
        for path in ["usr/bin/sluice", "usr/lib/systemd/system/sluice.service", "etc/sluice/sluice.yaml"] {
            assert!(members.contains(&format!("data.tar.gz: {path}")), "{path}: {members:?}");
        }
        assert!(text.contains("Version: 1.2.3\nArchitecture: arm64\n"), "{text}");
    }
}
