// Two clocks of one task: wall time since it was first opened, active time while the page is visible and in use.

const IDLE_AFTER = 60000;

export class Clock {
  constructor(openedAt = Date.now(), activeSeconds = 0) {
    this.openedAt = openedAt;
    this.activeSeconds = activeSeconds;
    this.lastInput = performance.now();
    for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchstart"]) {
      addEventListener(event, () => (this.lastInput = performance.now()), { passive: true, capture: true });
    }
    setInterval(() => this.tick(), 1000);
  }

  tick() {
    if (this.isActive) this.activeSeconds += 1;
  }

  get isActive() {
    return document.visibilityState === "visible" && performance.now() - this.lastInput < IDLE_AFTER;
  }

  get wallSeconds() {
    return Math.max(0, (Date.now() - this.openedAt) / 1000);
  }

  // Set to what an earlier visit of this task had counted.
  resume(openedAt, activeSeconds) {
    if (openedAt > 0) this.openedAt = Math.min(this.openedAt, openedAt);
    if (activeSeconds > 0) this.activeSeconds += activeSeconds;
  }
}
