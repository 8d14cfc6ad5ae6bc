//! Marks the map types as plain old data for aya, which copies them to and from the kernel as bytes.
#![allow(unsafe_code, reason = "aya's marker trait is unsafe; the layouts above have no padding and no invalid bits")]

use super::{
    AffinityKey, AffinityValue, BackendValue, DeviceValue, FamilyConfig, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendKey, FrontendValue, NameValue, ReportValue, SocketKey, SocketValue, SourceRangeKey,
    StatsValue, StatusValue, V4, V6,
};

macro_rules! pod {
    ($($ty:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)`, integers only, every byte is a field (asserted in `layout`), all bit patterns valid.
            unsafe impl aya::Pod for $ty {}
        )*
    };
}

pod!(
    FlowKey<V4>,
    FlowKey<V6>,
    FlowValue<V4>,
    FlowValue<V6>,
    FrontendKey<V4>,
    FrontendKey<V6>,
    FrontendValue,
    BackendValue<V4>,
    BackendValue<V6>,
    AffinityKey<V4>,
    AffinityKey<V6>,
    AffinityValue,
    SocketKey<V4>,
    SocketKey<V6>,
    SocketValue<V4>,
    SocketValue<V6>,
    FragmentKey<V4>,
    FragmentKey<V6>,
    FragmentValue,
    SourceRangeKey<V4>,
    SourceRangeKey<V6>,
    FamilyConfig<V4>,
    FamilyConfig<V6>,
    DeviceValue,
    StatsValue,
    StatusValue,
    NameValue,
    ReportValue,
);
