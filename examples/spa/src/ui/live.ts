// Events of the organization, while somebody looks: browsers have six connections to a server for all tabs together.
import { useEffect, useRef, useSyncExternalStore } from 'react';
import { useClient, useSubscription, type AnyVariables, type DocumentInput } from 'urql';

function onVisibility(changed: () => void) {
  document.addEventListener('visibilitychange', changed);
  return () => document.removeEventListener('visibilitychange', changed);
}

/** `missed` is asked when somebody looks again, for what happened meanwhile. Collects what `pick` takes from events. */
export function useLive<Event, Variables extends AnyVariables, Item = never>(
  events: DocumentInput<Event, Record<string, never>>,
  missed: { query: DocumentInput<unknown, Variables>; variables: Variables },
  pick?: (event: Event) => Item,
): Item[] {
  const client = useClient();
  const visible = useSyncExternalStore(onVisibility, () => !document.hidden);
  const wasHidden = useRef(false);
  const [{ data }] = useSubscription(
    { query: events, variables: {}, pause: !visible },
    (items: Item[] = [], event) => (pick ? [...items, pick(event)] : items),
  );
  useEffect(() => {
    if (visible && wasHidden.current) {
      void client.query(missed.query, missed.variables, { requestPolicy: 'network-only' }).toPromise();
    }
    wasHidden.current = !visible;
  }, [visible]);
  return data ?? [];
}
