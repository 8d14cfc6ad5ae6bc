//! Names of pinned links.

use std::io;
use std::path::Path;

use super::hook::Hook;
use crate::faults;

/// `DEVICE:HOOK`. A BPF file system refuses dots in names; a device's name has no colon, so colons stand for its dots.
pub(super) fn pin_name(device: &str, hook: Hook) -> String {
    format!("{}:{}", device.replace('.', ":"), hook.name())
}

/// The device's name in a pin's.
pub(super) fn device_of_pin(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once(':').map_or_else(|| name.to_string(), |(device, _)| device.replace(':', "."))
}

/// Removes a pin; with it goes the link, unless someone else holds it. False: it is still there.
pub(super) fn remove_pin(path: &Path) -> bool {
    match faults::point("link, remove").and_then(|()| std::fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(pin = %path.display(), %error, "pin cannot be removed, trying again");
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_names_have_no_dots_and_lead_back_to_the_device() {
        let name = pin_name("eth0.100", Hook::Egress);
        assert_eq!(name, "eth0:100:egress");
        assert_eq!(device_of_pin(Path::new("/pins").join(name).as_path()), "eth0.100");
    }
}
