// Registers of BAR 0 of the device that served.ts serves, and that programs in the guest drive.

/** Bus address of a transfer, as halves. */
export const IOVA_LOW = 0x00;
export const IOVA_HIGH = 0x04;
/** What to do: one of the commands below. */
export const DOORBELL = 0x08;
/** 1 after a transfer that was done, 2 when there was no memory. */
export const STATUS = 0x0c;
/** A write puts a line into the log of the device. */
export const NOTE = 0x10;
/** The 16 bytes of a transfer. */
export const DATA = 0x20;
export const MSI_X_TABLE = 0x800;
/** Commands: a transfer from memory and to it, the interrupt of vector 0, the interrupt line up and down. */
export const READ = 1;
export const WRITE = 2;
export const INTERRUPT = 3;
export const RAISE = 4;
export const LOWER = 5;
