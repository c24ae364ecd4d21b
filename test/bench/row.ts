/** One line of the benchmark table. */
export interface BenchRow {
  readonly name: string;
  /** Most nanoseconds that one operation may take. */
  readonly budgetNs: number;
  /** The operation must not allocate. */
  readonly allocationFree: boolean;
  /** Builds the world, and returns a function that runs operations in it and returns a checksum. */
  make(): (iterations: number) => number;
}
