//! `OUTLIERS4`/`OUTLIERS6`: array, index = backend id. How new connections to backends went whose Service has outlier ejection.

use super::plain::plain;

plain! {
    /// How new connections to one backend went. Ids beyond the map are not judged.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OutlierValue {
        /// Clients whose connections it has answered since the agent last looked: a bit each, by a hash.
        pub clients: u64,
        /// Those of them that it has failed.
        pub failing: u64,
        /// Connections that it has answered, be it with a refusal.
        pub answered: u64,
        /// Connections that it has refused, or has reset before it had sent anything.
        pub failed: u64,
        /// The backend's generation; 0: nothing is counted here.
        pub generation: u32,
        /// Always 0.
        pub pad: u32,
    }
}
