//! QueueService: what waits, and whether it may start.

use tasklease_proto::{
    convert::timestamp_to_wire,
    v1::{self, queue_service_server::QueueService},
};
use tonic::{Request, Response, Status};

use super::{Api, page, violations::checked};
use crate::{
    domain::{
        error::{Error, Violation},
        limits,
        name::{Namespace, QueueName},
        queue::QueueKey,
    },
    store::{LaneStats, QueueRecord},
};

#[tonic::async_trait]
impl QueueService for Api {
    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let request = request.into_inner();
        let page = checked!(QueuePage {
            size: page::size(request.page_size),
            after: page_after(request.page_token),
        })
        .map_err(Error::from)?;
        let mut queues = self
            .engine
            .db()
            .list_queues(
                &Namespace::default(),
                &page.after,
                i64::try_from(page.size + 1).unwrap_or(i64::MAX),
            )
            .await
            .map_err(Error::from)?;
        let mut next_page_token = String::new();
        if queues.len() > page.size {
            queues.pop();
            next_page_token = queues
                .last()
                .map(|queue| queue.key.name.to_string())
                .unwrap_or_default();
        }
        Ok(Response::new(v1::ListQueuesResponse {
            queues: queues.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_queue_stats(
        &self,
        request: Request<v1::GetQueueStatsRequest>,
    ) -> Result<Response<v1::GetQueueStatsResponse>, Status> {
        let queue = request.into_inner().queue;
        let queue = if queue.is_empty() {
            None
        } else {
            Some(QueueName::parse(&queue, "queue").map_err(Error::from)?)
        };
        self.engine.flush_counts().await;
        let stats = self
            .engine
            .db()
            .queue_stats(&Namespace::default(), queue.as_ref(), limits::COUNTED_TASKS)
            .await
            .map_err(Error::from)?;
        Ok(Response::new(v1::GetQueueStatsResponse {
            stats: stats.into_iter().map(Into::into).collect(),
        }))
    }

    async fn pause_queue(
        &self,
        request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::PauseQueueResponse>, Status> {
        let queue = parse(&request.into_inner().queue)?;
        let queue = self.engine.set_paused(&queue, true).await?;
        Ok(Response::new(v1::PauseQueueResponse {
            queue: Some(queue.into()),
        }))
    }

    async fn resume_queue(
        &self,
        request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::ResumeQueueResponse>, Status> {
        let queue = parse(&request.into_inner().queue)?;
        let queue = self.engine.set_paused(&queue, false).await?;
        Ok(Response::new(v1::ResumeQueueResponse {
            queue: Some(queue.into()),
        }))
    }
}

/// Which page of queues a caller asks for.
struct QueuePage {
    size: usize,
    /// The last name of the page before, which is its token too; empty for the first page.
    after: String,
}

fn page_after(token: String) -> Result<String, Violation> {
    if !token.is_empty() {
        QueueName::parse(&token, "page_token")?;
    }
    Ok(token)
}

fn parse(name: &str) -> Result<QueueKey, Error> {
    Ok(QueueKey::in_default(QueueName::parse(name, "queue")?))
}

impl From<QueueRecord> for v1::Queue {
    fn from(queue: QueueRecord) -> Self {
        Self {
            namespace: queue.key.namespace.to_string(),
            name: queue.key.name.to_string(),
            paused: queue.paused,
            create_time: Some(timestamp_to_wire(queue.created_at)),
        }
    }
}

impl From<LaneStats> for v1::TaskTypeStats {
    fn from(stats: LaneStats) -> Self {
        Self {
            exact: stats.exact,
            queue: stats.queue.name.to_string(),
            task_type: stats.task_type.to_string(),
            workers: stats.workers,
            scheduled: stats.scheduled,
            blocked: 0,
            pending: stats.pending,
            running: stats.running,
            succeeded: stats.succeeded,
            failed: stats.failed,
            cancelled: stats.cancelled,
            paused: stats.paused,
        }
    }
}
