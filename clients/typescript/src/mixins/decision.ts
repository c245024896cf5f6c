/** Decisions: which of the steps behind a decision step are created. */

import type { Data } from '../codec.js';
import { StepHandler, applyMixin, staticText } from '../handler.js';
import { StepHandlerResult } from '../results.js';

export const DecisionType = { CREATE_STEPS: 'create_steps', NO_BRANCHES: 'no_branches' } as const;
export type DecisionType = (typeof DecisionType)[keyof typeof DecisionType];

/** What a decision has come to. Keys may also be given in snake_case. */
export interface DecisionPointOutcome {
  decisionType: DecisionType | string;
  nextStepNames?: string[];
  dynamicSteps?: Data[] | null;
  reason?: string | null;
  routingContext?: Data;
}

/** What `applyDecision` adds to a handler. */
export interface DecisionCapable {
  decisionSuccess(steps: string | string[], routingContext?: Data | null, metadata?: Data): StepHandlerResult;
  decisionSuccessWithOutcome(outcome: DecisionPointOutcome, metadata?: Data): StepHandlerResult;
  decisionNoBranches(outcome: DecisionPointOutcome | string, metadata?: Data): StepHandlerResult;
  skipBranches(reason: string, routingContext?: Data | null, metadata?: Data): StepHandlerResult;
  decisionFailure(message: string, errorType?: string, retryable?: boolean, metadata?: Data): StepHandlerResult;
}

function nonEmpty(data: Data | null | undefined): data is Data {
  return data !== null && data !== undefined && Object.keys(data).length > 0;
}

function marked(target: object, metadata: Data | undefined): Data {
  const name = staticText(target, 'handlerName') || target.constructor.name;
  return { decision_handler: name, decision_version: staticText(target, 'handlerVersion') || '1.0.0', ...metadata };
}

/** The methods of decisions. */
export class DecisionMixin implements DecisionCapable {
  /** Create these steps. */
  decisionSuccess(steps: string | string[], routingContext?: Data | null, metadata?: Data): StepHandlerResult {
    return DecisionMixin.result(this, { decisionType: DecisionType.CREATE_STEPS, nextStepNames: asList(steps), routingContext: routingContext ?? {} }, metadata);
  }

  /** Do what an outcome says. */
  decisionSuccessWithOutcome(outcome: DecisionPointOutcome, metadata?: Data): StepHandlerResult {
    return DecisionMixin.result(this, outcome, metadata);
  }

  /** Create none of the steps. */
  decisionNoBranches(outcome: DecisionPointOutcome | string, metadata?: Data): StepHandlerResult {
    const given = typeof outcome === 'string' ? { reason: outcome } : outcome;
    return DecisionMixin.result(this, { ...given, decisionType: DecisionType.NO_BRANCHES }, metadata);
  }

  /** Create none of the steps. */
  skipBranches(reason: string, routingContext?: Data | null, metadata?: Data): StepHandlerResult {
    return DecisionMixin.result(this, { decisionType: DecisionType.NO_BRANCHES, reason, routingContext: routingContext ?? {} }, metadata);
  }

  /** The decision could not be made. */
  decisionFailure(message: string, errorType = 'decision_error', retryable = false, metadata?: Data): StepHandlerResult {
    return StepHandlerResult.failure(message, errorType, retryable, marked(this, metadata));
  }

  /** The result for an outcome. */
  static result(target: object, given: DecisionPointOutcome, metadata?: Data): StepHandlerResult {
    const loose = given as DecisionPointOutcome & Data;
    const routing = (loose.routingContext ?? loose['routing_context']) as Data | undefined;
    const result: Data = {};
    if (kindOf(loose) === DecisionType.NO_BRANCHES) {
      result['decision_point_outcome'] = { type: DecisionType.NO_BRANCHES };
      if (loose.reason) result['reason'] = loose.reason;
    } else {
      const names = asList((loose.nextStepNames ?? loose['next_step_names'] ?? loose['stepNames'] ?? loose['step_names'] ?? []) as string | string[]);
      result['decision_point_outcome'] = { type: DecisionType.CREATE_STEPS, step_names: names };
      const dynamic = loose.dynamicSteps ?? loose['dynamic_steps'];
      if (Array.isArray(dynamic) && dynamic.length > 0) result['dynamic_steps'] = dynamic;
    }
    if (nonEmpty(routing)) result['routing_context'] = routing;
    return StepHandlerResult.success(result, marked(target, metadata));
  }
}

function kindOf(outcome: DecisionPointOutcome & Data): unknown {
  return outcome.decisionType ?? outcome['decision_type'] ?? outcome['type'];
}

function asList(steps: string | readonly string[]): string[] {
  return typeof steps === 'string' ? [steps] : [...steps];
}

/** Give a handler the methods of decisions: `applyDecision(this)` in its constructor. */
export function applyDecision<T extends object>(target: T): T & DecisionCapable {
  applyMixin(target, new DecisionMixin());
  return target as T & DecisionCapable;
}

/** Base of class handlers of decision steps. */
export abstract class DecisionHandler extends StepHandler implements DecisionCapable {
  declare decisionSuccess: DecisionCapable['decisionSuccess'];
  declare decisionSuccessWithOutcome: DecisionCapable['decisionSuccessWithOutcome'];
  declare decisionNoBranches: DecisionCapable['decisionNoBranches'];
  declare skipBranches: DecisionCapable['skipBranches'];
  declare decisionFailure: DecisionCapable['decisionFailure'];

  override get capabilities(): string[] {
    return ['process', 'decision', 'routing'];
  }
}
applyMixin(DecisionHandler.prototype, new DecisionMixin());
