/**
 * The registers of the request engine, in the first 4 KiB of its BAR 0: 32 bits each, little-endian, read and written
 * as aligned words. `guest.c` has the same names.
 *
 * @module
 */

/** Untranslated address, 64 bits in two registers. */
export const ADDRESS_LOW = 0x10;
export const ADDRESS_HIGH = 0x14;
/** PASID: bits 19:0; {@link PASID_PRESENT} says that the request has one. */
export const PASID = 0x18;
export const PASID_PRESENT = 0x8000_0000;
/** Bytes, 1 to {@link DATA_BYTES}; a request must not cross 4 KiB. */
export const LENGTH = 0x1c;
/** Writing it orders a request; `COMMAND_*`. */
export const COMMAND = 0x20;
/** Read only: `STATUS_*`; 0 when nothing was ordered yet. */
export const STATUS = 0x24;
/** Read only: the fault code of the vIOMMU, or 0. */
export const CODE = 0x28;
/** Read only: where the vIOMMU led the request, 64 bits in two registers. */
export const RESULT_LOW = 0x30;
export const RESULT_HIGH = 0x34;
/** What a write writes, and what a read has read. */
export const DATA = 0x40;
/** Bytes at {@link DATA}. */
export const DATA_BYTES = 64;

/** What is wanted: bits 2:0 of {@link COMMAND}. */
export const COMMAND_KIND = 0x07;
export const COMMAND_READ = 1;
export const COMMAND_WRITE = 2;
/** A read with Execute Requested; needs a PASID. */
export const COMMAND_EXECUTE = 3;
/** A Translation Request only: no memory is touched. */
export const COMMAND_TRANSLATE = 4;
/** Privileged Mode Requested; needs a PASID. */
export const COMMAND_PRIVILEGED = 0x10;
/** Go through the engine's translation cache: ask for a translation when it has none, and send a translated request. */
export const COMMAND_ATS = 0x20;
/** With ATS: where there is no translation, ask for the page, wait for the answer, and try again. */
export const COMMAND_PRI = 0x40;
/** Send the request even where Bus Master, PASID Enable or the width forbid it, as a broken device would. */
export const COMMAND_FORCE = 0x80;

export const STATUS_DONE = 1;
export const STATUS_BUSY = 2;
/** The vIOMMU refused it; {@link CODE} says why. */
export const STATUS_REJECTED = 3;
/** Not sent: Bus Master, PASID, ATS or PRI is not enabled, the PASID too wide, or the order is no request. */
export const STATUS_NOT_SENT = 4;
/** It was translated, and there is no memory. */
export const STATUS_NO_MEMORY = 5;
