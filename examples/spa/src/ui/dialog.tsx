// Modal dialogs on the browser's own element, which keeps focus, Escape and the background right.
import { useEffect, useId, useRef, useState, type ReactNode } from 'react';

export function Dialog({ title, children, onClose }: { title: string; children: ReactNode; onClose: () => void }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => ref.current?.showModal(), []);
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={onClose} onClick={(event) => event.target === ref.current && onClose()}>
      <div className="dialog">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

type ConfirmProps = {
  /** Of the button that asks, and of the one that does it. */
  label: string;
  title: string;
  children: ReactNode;
  subject?: string;
  className?: string;
  onConfirm: () => void;
};

/** A button that asks before it does something that cannot be undone. `subject` tells rows apart for screen readers. */
export function ConfirmButton({ label, title, children, subject, className = 'subtle', onConfirm }: ConfirmProps) {
  const [open, setOpen] = useState(false);
  const close = () => setOpen(false);
  return (
    <>
      <button className={className} aria-label={subject && `${label} ${subject}`} onClick={() => setOpen(true)}>
        {label}
      </button>
      {open && (
        <Dialog title={title} onClose={close}>
          <p>{children}</p>
          <div className="actions">
            <button onClick={close}>Keep</button>
            <button className="danger" onClick={() => (close(), onConfirm())}>
              {label}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
