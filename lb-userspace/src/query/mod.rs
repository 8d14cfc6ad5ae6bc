//! Questions that operators ask, answered from the model: why is this Service served as it is?

pub mod explain;
