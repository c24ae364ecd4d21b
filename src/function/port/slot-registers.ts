/**
 * Slot Control and Slot Status of a downstream port (PCIe 7.5.3.10, 7.5.3.11), and the bit of Link Status that goes
 * with them (7.5.3.8).
 *
 * @module
 */

export const CONTROL_HOT_PLUG_INTERRUPT_ENABLE = 0x0020;
export const CONTROL_POWER_CONTROLLER = 0x0400;
export const CONTROL_DATA_LINK_LAYER_STATE_CHANGED_ENABLE = 0x1000;
/** Both indicators off: what a hot-plug slot reads at power-on. */
export const CONTROL_INDICATORS_OFF = 0x03c0;
/**
 * Every bit of Slot Control that a guest writes. Without command completed events their enable is hardwired to 0, and
 * Electromechanical Interlock Control always reads 0.
 */
export const CONTROL_RW = 0x17ef;
export const STATUS_ATTENTION_BUTTON_PRESSED = 0x0001;
export const STATUS_PRESENCE_DETECT_CHANGED = 0x0008;
export const STATUS_PRESENCE_DETECT_STATE = 0x0040;
export const STATUS_DATA_LINK_LAYER_STATE_CHANGED = 0x0100;
/** Bits of Slot Status whose enables in Slot Control have the same positions. */
export const STATUS_WITH_ENABLES = 0x001f;
/** Every bit of Slot Status that a guest clears. */
export const STATUS_RW1C = 0x011f;
export const LINK_STATUS_DATA_LINK_LAYER_ACTIVE = 0x2000;
