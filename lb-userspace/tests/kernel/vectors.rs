//! All vectors through the programs: one test each and mode, both address families.

use std::sync::{Mutex, OnceLock, PoisonError};

use lb_common::abi::{V4, V6};
use lb_common::testkit::{Scene, vectors};

use crate::node::KernelNode;
use crate::rig::{Mode, Rig};

/// Runs `test` against the loaded programs of a mode: they are loaded once, and each vector begins with empty tables.
fn on_a_node(mode: Mode, test: impl FnOnce(&mut KernelNode<'_>)) {
    static RIGS: [OnceLock<Mutex<Rig>>; 3] = [const { OnceLock::new() }; 3];
    let rig = match mode {
        Mode::Tc => &RIGS[0],
        Mode::Xdp => &RIGS[1],
        Mode::XdpNoSend => &RIGS[2],
    };
    let rig = rig.get_or_init(|| Mutex::new(Rig::new(mode)));
    // A failed vector leaves tables behind that the next one clears.
    let mut rig = rig.lock().unwrap_or_else(PoisonError::into_inner);
    rig.namespace.enter();
    test(&mut KernelNode { rig: &mut rig, mode, may_hand_over: false });
}

macro_rules! kernel {
    ($($group:ident { $($name:ident)* })*) => {
        $(mod $group {
            kernel!(@mode tc, Tc, $group { $($name)* });
            kernel!(@mode xdp, Xdp, $group { $($name)* });
            kernel!(@mode xdp_no_send, XdpNoSend, $group { $($name)* });
        })*
    };
    (@mode $module:ident, $mode:ident, $group:ident { $($name:ident)* }) => {
        mod $module {
            use crate::vectors::{Mode, Scene, V4, V6, on_a_node, vectors};
            $(
                #[test]
                fn $name() {
                    on_a_node(Mode::$mode, |node| {
                        vectors::$group::$name::<V4>(&mut Scene::new(stringify!($name), node));
                        vectors::$group::$name::<V6>(&mut Scene::new(stringify!($name), node));
                    });
                }
            )*
        }
    };
}

lb_common::each_vector!(kernel);
