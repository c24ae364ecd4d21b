/**
 * `vpci/trace`: replay of traces, which are JSON lines (`docs/trace.md`).
 *
 * @packageDocumentation
 */
export { type ReplayOptions, type ReplayResult, replay, TRACE_VERSION } from './replay.ts';
