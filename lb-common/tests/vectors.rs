//! All vectors, on the host: one test each, both address families.

use lb_common::abi::{V4, V6};
use lb_common::testkit::{HostNode, Scene, vectors};

macro_rules! host {
    ($($group:ident { $($name:ident)* })*) => {
        $(mod $group {
            $(
                #[test]
                fn $name() {
                    let mut node = super::HostNode::<super::V4>::default();
                    super::vectors::$group::$name(&mut super::Scene::new(stringify!($name), &mut node));
                    let mut node = super::HostNode::<super::V6>::default();
                    super::vectors::$group::$name(&mut super::Scene::new(stringify!($name), &mut node));
                }
            )*
        })*
    };
}

lb_common::each_vector!(host);
