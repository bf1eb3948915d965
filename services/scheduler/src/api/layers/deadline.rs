//! Deadlines: a call that takes longer than its client waits ends with DEADLINE_EXCEEDED, also in mid-stream.
//!
//! tonic's own timeout covers only the head of the response and answers CANCELLED, so this layer answers a moment
//! before it would.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tower::{Layer, Service};

/// How much earlier than the client gives up.
const MARGIN: Duration = Duration::from_millis(3);

/// Adds deadlines to a service.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

/// A service with deadlines.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body + Default,
{
    type Response = Response<DeadlineBody<R>>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let deadline = timeout(request.headers())
            .and_then(|timeout| Instant::now().checked_add(timeout.saturating_sub(MARGIN)));
        DeadlineFuture {
            inner: self.inner.call(request),
            sleep: deadline.map(tokio::time::sleep_until),
            deadline,
        }
    }
}

pin_project! {
    /// A call under a deadline.
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        sleep: Option<Sleep>,
        deadline: Option<Instant>,
    }
}

impl<F, R, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body + Default,
{
    type Output = Result<Response<DeadlineBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(context) {
            let sleep = this.deadline.map(tokio::time::sleep_until);
            return Poll::Ready(result.map(|response| {
                response.map(|body| DeadlineBody {
                    body,
                    sleep,
                    ended: false,
                })
            }));
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => {
                ready!(sleep.poll(context));
                let response = exceeded().into_http::<R>();
                Poll::Ready(Ok(response.map(|body| DeadlineBody {
                    body,
                    sleep: None,
                    ended: false,
                })))
            }
            None => Poll::Pending,
        }
    }
}

pin_project! {
    /// A response under a deadline.
    pub struct DeadlineBody<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Option<Sleep>,
        ended: bool,
    }
}

impl<B: Body> Body for DeadlineBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(context) {
            return Poll::Ready(frame);
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => {
                ready!(sleep.poll(context));
                *this.ended = true;
                let mut trailers = HeaderMap::new();
                // Fails only for text that is no header value, and this is a constant.
                let _ = exceeded().add_header(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline of the call has passed")
}

/// Reads `grpc-timeout`: at most eight digits and a unit; anything else counts as no timeout.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_timeout_counts() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value.parse().expect("a header value"));
            timeout(&headers)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "S", "5", "-1S", "1.5S", "123456789S", "5x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
