// Subscribes to events while the tab is visible, because browsers allow six connections per server
// for all tabs.
import { useEffect, useRef, useSyncExternalStore } from 'react';
import { useClient, useSubscription, type AnyVariables, type DocumentInput } from 'urql';

function onVisibility(changed: () => void) {
  document.addEventListener('visibilitychange', changed);
  return () => document.removeEventListener('visibilitychange', changed);
}

/** Queries `missed` when the tab becomes visible again. Returns what `pick` extracts from the events. */
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
