// Modal dialogs. They use the dialog element, which handles focus, Escape and the backdrop.
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
  /** The label of the button, and of the button that confirms. */
  label: string;
  title: string;
  children: ReactNode;
  subject?: string;
  className?: string;
  /** The appearance of the button that confirms. */
  tone?: 'danger' | 'primary';
  busy?: boolean;
  onConfirm: () => void;
};

/**
 * A button for actions with consequences, with a confirmation. `subject` distinguishes rows for
 * screen readers.
 */
export function ConfirmButton(props: ConfirmProps) {
  const { label, title, children, subject, className = 'subtle', tone = 'danger', busy = false, onConfirm } = props;
  const [open, setOpen] = useState(false);
  const close = () => setOpen(false);
  return (
    <>
      <button type="button" className={className} disabled={busy} aria-label={subject && `${label} ${subject}`} onClick={() => setOpen(true)}>
        {label}
      </button>
      {open && (
        <Dialog title={title} onClose={close}>
          <div>{children}</div>
          <div className="actions">
            <button type="button" onClick={close}>Cancel</button>
            <button type="button" className={tone} onClick={() => (close(), onConfirm())}>
              {label}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
