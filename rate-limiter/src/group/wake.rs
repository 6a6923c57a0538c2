//! The call that ends the wait of a member.

/// Call by which a waiting [`Member`](super::Member) is told that it need not wait for its
/// deadline: by writing to an eventfd, for example. It is called by whichever thread gave tokens
/// back, so it must not block. Called once per wait; a false alarm is possible and harmless.
pub trait Wake: Send + Sync {
    /// Makes the member's thread try again.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}
