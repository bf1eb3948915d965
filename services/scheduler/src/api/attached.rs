//! A stream that belongs to a session.

use crate::{
    domain::ids::SessionId,
    engine::{Engine, Generation},
};

/// Detaches a stream from its session however the stream ends.
pub(super) struct Attached {
    engine: Engine,
    session: SessionId,
    generation: Generation,
}

impl Attached {
    /// Guards a stream that the engine has just attached.
    pub(super) fn new(engine: &Engine, session: SessionId, generation: Generation) -> Self {
        Self {
            engine: engine.clone(),
            session,
            generation,
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.engine.detach(self.session, self.generation);
    }
}
