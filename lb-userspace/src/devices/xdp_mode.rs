//! Where native XDP is used.

use super::inventory::Device;
use super::role_decider::is_tap;

/// Where native XDP is used on uplinks. Generic XDP never is: it is slower than TC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Where the driver has it, but not on virtual devices whose packets may carry partial checksums (veth, tap).
    #[default]
    Auto,
    /// On every uplink; where it does not attach, the report says why.
    Native,
    /// Nowhere.
    Off,
}

impl std::str::FromStr for XdpMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "off" => Ok(Self::Off),
            other => Err(format!("\"{other}\" is not one of auto, native, off")),
        }
    }
}

/// Whether native XDP is to be tried on an uplink, else why not.
pub fn xdp_wanted(mode: XdpMode, device: &Device) -> Result<(), String> {
    match mode {
        XdpMode::Off => Err("XDP is switched off".into()),
        XdpMode::Auto if device.is(&["veth"]) || is_tap(device) => Err(format!(
            "no XDP: packets from a {} may carry partial checksums; --xdp native forces it",
            device.kind_name()
        )),
        XdpMode::Auto if device.kind.is_some() && !device.is(&["bond"]) => {
            Err(format!("no XDP: a {} device has no driver for it", device.kind_name()))
        }
        XdpMode::Native | XdpMode::Auto => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdp_is_tried_on_devices_with_a_driver_and_whole_checksums_unless_forced() {
        let kinds = [None, Some("bond"), Some("veth"), Some("vxlan"), Some("tun")];
        let devices = kinds.map(|kind| Device { kind: kind.map(str::to_owned), ethernet: true, ..Device::default() });
        let wanted = |mode| devices.iter().map(|device| xdp_wanted(mode, device).is_ok()).collect::<Vec<_>>();
        assert_eq!(wanted(XdpMode::Auto), [true, true, false, false, false]);
        assert_eq!(wanted(XdpMode::Native), [true; 5]);
        assert_eq!(wanted(XdpMode::Off), [false; 5]);
    }
}
