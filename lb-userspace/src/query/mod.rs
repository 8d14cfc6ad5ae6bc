//! Questions that operators ask, answered from the model and the maps: why is this Service served as it is, what becomes of a packet?

pub mod explain;
pub mod trace;
