//! All vectors through the programs: one test each and mode, both address families.

use lb_common::abi::{V4, V6};
use lb_common::testkit::{Scene, vectors};

use crate::rig::{Mode, on_a_node};

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
