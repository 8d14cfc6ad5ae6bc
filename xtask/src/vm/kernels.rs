//! The kernels that are tried, pinned, and what each of them cannot show.

/// A kernel of Debian's.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As people call it.
    pub(super) name: &'static str,
    /// Its release, as `uname -r` tells.
    pub(super) release: &'static str,
    /// The packages that it consists of.
    pub(super) packages: &'static [Package],
    /// Tests that it cannot pass.
    pub(super) without: &'static [Without],
}

/// A package in the archive.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) url: &'static str,
    pub(super) sha256: &'static str,
}

/// Tests that are left out on a kernel.
#[derive(Debug)]
pub(super) struct Without {
    /// The test program.
    pub(super) program: &'static str,
    /// What the tests' names contain.
    pub(super) tests: &'static [&'static str],
    /// Why.
    pub(super) why: &'static str,
}

const NO_TCX: Without = Without {
    program: "attach",
    tests: &[
        "devices_are_served_by_their_role_as_they_come_and_go",
        "programs_stay_without_the_agent_and_the_next_one_updates_the_same_links",
        "a_device_that_changes_its_role_or_name_keeps_its_links",
    ],
    why: "about tcx links, which came with 6.6",
};

/// From old to new: the oldest that is supported, and those of Debian's releases.
pub(super) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        release: "5.10.0-46-cloud-amd64",
        packages: &[Package {
            url: "http://deb.debian.org/debian-security/pool/updates/main/l/linux-signed-amd64/linux-image-5.10.0-46-cloud-amd64_5.10.262-1_amd64.deb",
            sha256: "18d94781d1b3052e21967ac2262239e5f14fbf511d6c3e110629d7aa35340760",
        }],
        without: &[
            NO_TCX,
            Without {
                program: "kernel",
                tests: &["::xdp::", "::xdp_no_send::", "in_xdp", "xdp_hands_over", "pass_xdp"],
                why: "no test run of XDP with a context before 5.18",
            },
            Without {
                program: "kernel",
                tests: &["packet_larger_than_the_way_takes_is_answered"],
                why: "how large a packet may be is told from 5.12 on",
            },
            Without {
                program: "kernel",
                tests: &["each_program_is_verified_within_bounds"],
                why: "what the verifier looked at is told from 5.16 on",
            },
            Without {
                program: "sockets",
                tests: &[""],
                why: "no sockets are destroyed before 5.14, which has no cookie of a network namespace",
            },
            Without {
                program: "node",
                tests: &[
                    "node_ports_are_served_on_the_hosts_loopback_and_not_on_a_pods",
                    "host_only_leaves_the_sockets_of_pods_to_the_packet_path",
                    "a_socket_for_both_families_reaches_ipv4_frontends",
                    "sockets_are_refused_at_once_without_endpoints_and_at_unknown_ports",
                    "the_wildcard_address_is_no_node_port_of_a_pod",
                    "a_namespace_that_opted_out_is_left_to_the_packet_path",
                ],
                why: "no refusal at the socket before 5.18; no node in a namespace of its own is known before 5.14",
            },
        ],
    },
    Kernel {
        name: "6.1",
        release: "6.1.0-56-cloud-amd64",
        packages: &[Package {
            url: "http://deb.debian.org/debian-security/pool/updates/main/l/linux/linux-image-6.1.0-56-cloud-amd64-unsigned_6.1.192-2_amd64.deb",
            sha256: "7ff7fc8da85d313242c20698c6b34542aea447673c7c1975b0d38bd6005100b5",
        }],
        without: &[NO_TCX],
    },
    Kernel {
        name: "6.12",
        release: "6.12.117+deb12-cloud-amd64",
        packages: &[Package {
            url: "http://deb.debian.org/debian-security/pool/updates/main/l/linux-6.12/linux-image-6.12.117%2bdeb12-cloud-amd64-unsigned_6.12.117-1%7edeb12u1_amd64.deb",
            sha256: "670b2688bcf94c24693f7c7e1fc9776ff2e202ff15553a2614f79415d48a6607",
        }],
        without: &[],
    },
    Kernel {
        name: "7.3",
        release: "7.3.4+deb13-cloud-amd64",
        packages: &[
            Package {
                url: "http://deb.debian.org/debian/pool/main/l/linux-signed-amd64/linux-binary-7.3.4%2bdeb13-cloud-amd64_7.3.4-1%7ebpo13%2b1_amd64.deb",
                sha256: "c4fbc8e404958693b28825474c20742d70594d65ca58aea7be6a279c81eb6fa0",
            },
            Package {
                url: "http://deb.debian.org/debian/pool/main/l/linux/linux-modules-7.3.4%2bdeb13-cloud-amd64_7.3.4-1%7ebpo13%2b1_amd64.deb",
                sha256: "359f04c363b7d3c5f9ce999ccb7351e00cc8eec0a30d6bc1cda37734987fc43d",
            },
        ],
        without: &[],
    },
];
