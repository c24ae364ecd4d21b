/**
 * The Configuration Access Mechanism of PC-compatible machines: a 32-bit address port and a 32-bit data port
 * (PCI 3.0 3.2.2.3.2).
 *
 * @module
 */

/** CONFIG_ADDRESS: latches 32-bit writes only. */
export const CONFIG_ADDRESS_PORT = 0xcf8;
/** CONFIG_DATA: 1, 2 or 4 bytes, anywhere inside its four ports. */
export const CONFIG_DATA_PORT = 0xcfc;
/** Enable (bit 31: configuration cycles are generated), bus, device, function and register number; the other bits are hardwired to 0. */
export const CONFIG_ADDRESS_MASK = 0x80fffffc;
