//! WorkerService: the two streams of a worker, and the list of workers.

use tasklease_proto::{
    convert::timestamp_from_micros,
    v1::{self, worker_service_server::WorkerService},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{Api, claim_stream, page, report_stream};
use crate::{
    domain::{error::Error, ids::SessionId},
    store::WorkerRecord,
};

#[tonic::async_trait]
impl WorkerService for Api {
    type ClaimTaskStream = ReceiverStream<Result<v1::ClaimTaskResponse, Status>>;
    type ReportProgressStream = ReceiverStream<Result<v1::ReportProgressResponse, Status>>;

    async fn claim_task(
        &self,
        request: Request<Streaming<v1::ClaimTaskRequest>>,
    ) -> Result<Response<Self::ClaimTaskStream>, Status> {
        Ok(Response::new(claim_stream::open(self, request.into_inner())))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<v1::ReportProgressRequest>>,
    ) -> Result<Response<Self::ReportProgressStream>, Status> {
        Ok(Response::new(report_stream::open(self, request.into_inner())))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size).map_err(Error::from)?;
        let after = page::start(&request.page_token, "workers")
            .map_err(Error::from)?
            .unwrap_or(Uuid::nil());
        let mut workers = self
            .engine
            .db()
            .list_workers(SessionId(after), size + 1)
            .await
            .map_err(Error::from)?;
        let mut next_page_token = String::new();
        if i64::try_from(workers.len()).is_ok_and(|n| n > size) {
            workers.pop();
            next_page_token = workers
                .last()
                .map(|last| page::token(last.id.0, "workers"))
                .unwrap_or_default();
        }
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }
}

impl From<WorkerRecord> for v1::Worker {
    fn from(worker: WorkerRecord) -> Self {
        Self {
            session_id: worker.id.to_string(),
            name: worker.name,
            incarnation: worker.incarnation,
            task_types: worker.task_types,
            queues: worker.queues,
            labels: worker.labels.into_iter().collect(),
            slots: worker.slots,
            running: worker.running,
            create_time: Some(timestamp_from_micros(worker.created_us)),
            heartbeat_time: Some(timestamp_from_micros(worker.heartbeat_us)),
            scheduler: worker.scheduler,
        }
    }
}
