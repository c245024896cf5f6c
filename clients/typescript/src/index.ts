/**
 * TypeScript client of taskerd: step handlers, workers, tasks.
 *
 * @packageDocumentation
 */

export { StepHandler, type ExecutableHandler, type StepHandlerClass } from './handler.js';
export {
  StepContext,
  type CheckpointData,
  type DependencyEnvelope,
  type StepContextParams,
  type StepEvent,
  type StepEvent as FfiStepEvent,
} from './context.js';
export {
  ErrorType,
  StepHandlerResult,
  isStandardErrorType,
  isTypicallyRetryable,
  type OrchestrationMetadata,
  type StepHandlerResultParams,
} from './results.js';
export * from './errors.js';
export {
  Decision,
  defineApiHandler,
  defineBatchAnalyzer,
  defineBatchWorker,
  defineDecisionHandler,
  defineHandler,
  type ApiHandlerArgs,
  type ApiHandlerOptions,
  type BatchAnalyzerOptions,
  type BatchConfig,
  type BatchWorkerArgs,
  type BatchWorkerOptions,
  type HandlerArgs,
  type HandlerFn,
  type HandlerOptions,
} from './functional.js';
export { APIMixin, ApiHandler, ApiResponse, applyAPI, type APICapable, type ApiBody, type QueryParams } from './mixins/api.js';
export {
  DecisionHandler,
  DecisionMixin,
  DecisionType,
  applyDecision,
  type DecisionCapable,
  type DecisionPointOutcome,
} from './mixins/decision.js';
export { BatchableMixin, BatchableStepHandler, applyBatchable, type Batchable, type BatchableResult } from './mixins/batchable.js';
export {
  FailureStrategy,
  aggregateBatchResults,
  createBatchWorkerContext,
  createBatches,
  detectAggregationScenario,
  isCreateBatches,
  isNoBatches,
  noBatches,
  type BatchAggregationResult,
  type BatchAggregationScenario,
  type BatchAnalyzerOutcome,
  type BatchMetadata,
  type BatchProcessingOutcome,
  type BatchWorkerConfig,
  type BatchWorkerContext,
  type BatchWorkerContextParams,
  type BatchWorkerOutcome,
  type CreateBatchesOutcome,
  type CursorConfig,
  type NoBatchesOutcome,
  type RustBatchWorkerInputs,
  type RustCursorConfig,
} from './batch.js';
export {
  ClassLookupResolver,
  ExplicitMappingResolver,
  HandlerRegistry,
  MethodDispatchError,
  MethodDispatchWrapper,
  NoResolverMatchError,
  RegistryResolver,
  ResolutionError,
  ResolverChain,
  ResolverNotFoundError,
  effectiveMethod,
  fromCallable,
  fromDto,
  hasResolverHint,
  normalizeToDefinition,
  usesMethodDispatch,
  type BaseResolver,
  type HandlerDefinition,
  type HandlerEntry,
  type HandlerSpec,
} from './registry.js';
export { HandlerSystem, findTemplatePath, templateCallables, templateFiles } from './discovery.js';
export type { ImportFailure } from './loader.js';
export { Worker, type WorkerOptions, type WorkerState, type WorkerStatus } from './worker.js';
export {
  ShutdownController,
  WorkerServer,
  bootstrapWorker,
  getVersion,
  getWorkerStatus,
  isWorkerRunning,
  stopWorker,
  type BootstrapConfig,
  type BootstrapResult,
  type ServerState,
  type ServerStatus,
  type WorkerServerConfig,
} from './server.js';
export {
  AsyncTaskerClient,
  type ClientOptions,
  type ConsumeOptions,
  type CreateTaskOptions,
  type EventMessage,
  type ListTasksOptions,
  type RequestOptions,
} from './client.js';
export { TaskerClient, TaskerClientError, getTaskerClient } from './client_sync.js';
export type {
  ClientHealthResponse,
  ClientPaginationInfo,
  ClientStepAuditResponse,
  ClientStepResponse,
  ClientTaskListResponse,
  ClientTaskResponse,
  CreateOutcome,
  WaitResult,
} from './client_models.js';
export { BasePublisher, DefaultPublisher } from './events/publisher.js';
export { BaseSubscriber, type SubscriberClass } from './events/subscriber.js';
export {
  DuplicatePublisherError,
  PublisherNotFoundError,
  PublisherRegistry,
  PublisherValidationError,
  RegistryFrozenError,
  SubscriberRegistry,
} from './events/registry.js';
export { EventStream, InProcessDomainEventPoller, type EventStreamOptions, type PollerOptions } from './events/poller.js';
export {
  matchesPattern,
  type DomainEvent,
  type DomainEventMetadata,
  type EventDeclaration,
  type ExecutionResult,
  type PublishCondition,
  type PublishContext,
  type StepEventContext,
  type StepResult,
} from './events/models.js';
export { createLogger, logDebug, logError, logInfo, logTrace, logWarn, type LogFields, type LogLevel, type Logger } from './log.js';
export { socketPath } from './transport.js';
export { VERSION } from './version.js';
