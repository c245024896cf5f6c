-- Bearer tokens for HTTP. The daemon draws the secret and hands over its hash; what stands here lets nobody in. A change is told to all nodes by NOTIFY, each of which
-- keeps the tokens that are good in memory (api_token_sync).

CREATE TABLE tasker.tokens (
  token_id text PRIMARY KEY CHECK (token_id ~ '^[0-9a-f]{12}$'),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32), -- SHA-256 of 256 random bits and the id: nothing to guess, so no salt and no slow hash
  name text NOT NULL CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$'),
  roles text[] NOT NULL,
  namespaces text[],                    -- NULL: all
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by text NOT NULL,
  expires_at timestamptz,               -- NULL: never
  revoked_at timestamptz,
  revoked_by text,
  last_used_at timestamptz              -- within a minute
);

CREATE FUNCTION tasker.token_is_good(t tasker.tokens) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
$$;

CREATE FUNCTION tasker.token_object(t tasker.tokens) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('id', t.token_id, 'name', t.name, 'roles', t.roles, 'namespaces', coalesce(t.namespaces, '{*}'), 'created_at', tasker.rfc3339(t.created_at), 'created_by', t.created_by,
    'expires_at', tasker.rfc3339(t.expires_at), 'revoked_at', tasker.rfc3339(t.revoked_at), 'revoked_by', t.revoked_by, 'last_used_at', tasker.rfc3339(t.last_used_at),
    'state', CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN tasker.token_is_good(t) THEN 'active' ELSE 'expired' END)
$$;

CREATE FUNCTION tasker.actor_name(a tasker.actor) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT coalesce(a.operator, a.user_name, 'uid:' || a.uid)
$$;

-- {"id", "hash" (hex) drawn by the daemon, "name", "roles", "namespaces", "expires_at", "by"}. A repeat makes nothing: the id is the same.
CREATE FUNCTION tasker.api_token_create(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  t tasker.tokens;
  v_expires CONSTANT timestamptz := (p ->> 'expires_at')::timestamptz;
BEGIN
  LOCK TABLE tasker.tokens IN SHARE ROW EXCLUSIVE MODE;
  SELECT x.* INTO t FROM tasker.tokens x WHERE x.token_id = p ->> 'id';
  IF FOUND THEN
    RETURN tasker.token_object(t);
  ELSIF NOT p ->> 'name' ~ '^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$' THEN
    RAISE EXCEPTION 'name % is not 1 to 64 letters, digits, dots, dashes or underscores', quote_literal(left(p ->> 'name', 64)) USING ERRCODE = 'TK400', COLUMN = 'name';
  ELSIF v_expires <= clock_timestamp() THEN
    RAISE EXCEPTION 'expires_at % is over already', p ->> 'expires_at' USING ERRCODE = 'TK400', COLUMN = 'expires_at';
  END IF;
  SELECT x.* INTO t FROM tasker.tokens x WHERE x.name = p ->> 'name' AND tasker.token_is_good(x);
  IF FOUND THEN
    RAISE EXCEPTION 'the token % (id %) has this name; revoke it first, or take another name', t.name, t.token_id USING ERRCODE = 'TK409', COLUMN = 'name';
  ELSIF (SELECT count(*) FROM tasker.tokens x WHERE tasker.token_is_good(x)) >= 10000 THEN
    RAISE EXCEPTION 'there are 10000 tokens; revoke some' USING ERRCODE = 'TK409';
  END IF;
  -- What has been of no use for long is kept in operator_actions alone.
  DELETE FROM tasker.tokens x WHERE least(x.revoked_at, x.expires_at) < now() - interval '90 days';
  INSERT INTO tasker.tokens (token_id, hash, name, roles, namespaces, created_by, expires_at)
  VALUES (p ->> 'id', decode(p ->> 'hash', 'hex'), p ->> 'name', ARRAY(SELECT DISTINCT r FROM jsonb_array_elements_text(p -> 'roles') r ORDER BY r),
          CASE WHEN p -> 'namespaces' IS NOT NULL THEN ARRAY(SELECT DISTINCT n FROM jsonb_array_elements_text(p -> 'namespaces') n ORDER BY n) END, tasker.actor_name(a), v_expires)
  RETURNING * INTO t;
  PERFORM tasker.note_action(a, 'token.create', NULL, NULL, NULL, (tasker.token_object(t) - '{created_at,created_by,revoked_at,revoked_by,last_used_at,state}'::text[])::text);
  PERFORM tasker.notify('tasker_tokens', '');
  RETURN tasker.token_object(t);
END $$;

-- {"all": with those that are of no use any more, "within"}, newest first.
CREATE FUNCTION tasker.api_token_list(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('tokens', coalesce((
    SELECT jsonb_agg(tasker.token_object(x) ORDER BY x.created_at DESC, x.token_id)
    FROM (SELECT t.* FROM tasker.tokens t
          WHERE (coalesce((p ->> 'all')::boolean, false) OR tasker.token_is_good(t)) AND (p -> 'within' IS NULL OR to_jsonb(t.namespaces) <@ (p -> 'within'))
          ORDER BY t.created_at DESC, t.token_id LIMIT 10000) x), '[]'))
$$;

-- {"token" (an id, or the name of one that is good), "within", "reason", "operator", "by"}. One that is revoked already stays as it is.
CREATE FUNCTION tasker.api_token_revoke(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  t tasker.tokens;
BEGIN
  SELECT x.* INTO t FROM tasker.tokens x
  WHERE (x.token_id = p ->> 'token' OR x.name = p ->> 'token') AND (p -> 'within' IS NULL OR to_jsonb(x.namespaces) <@ (p -> 'within'))
  ORDER BY x.token_id = p ->> 'token' DESC, tasker.token_is_good(x) DESC, x.created_at DESC LIMIT 1 FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such token' USING ERRCODE = 'TK404', COLUMN = 'token';
  ELSIF t.revoked_at IS NULL THEN
    UPDATE tasker.tokens x SET revoked_at = clock_timestamp(), revoked_by = tasker.actor_name(a) WHERE x.token_id = t.token_id RETURNING * INTO t;
    PERFORM tasker.note_action(a, 'token.revoke', NULL, NULL, NULL, jsonb_build_object('id', t.token_id, 'name', t.name)::text);
    PERFORM tasker.notify('tasker_tokens', '');
  END IF;
  RETURN tasker.token_object(t);
END $$;

-- A node's look at the tokens: {"used": ids since the last look, "seen": the answer's "seen" of then}. "tokens" is null if nothing has changed.
CREATE FUNCTION tasker.api_token_sync(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_seen text;
BEGIN
  IF jsonb_array_length(p -> 'used') > 0 THEN
    UPDATE tasker.tokens t SET last_used_at = now()
    WHERE t.ctid = ANY (ARRAY(
      SELECT x.ctid FROM tasker.tokens x WHERE x.token_id IN (SELECT jsonb_array_elements_text(p -> 'used')) AND (x.last_used_at IS NULL OR x.last_used_at < now() - interval '50 seconds')
      FOR UPDATE SKIP LOCKED));
  END IF;
  SELECT encode(sha256(convert_to(coalesce(string_agg(t.token_id, ',' ORDER BY t.token_id), ''), 'UTF8')), 'hex') INTO v_seen FROM tasker.tokens t WHERE tasker.token_is_good(t);
  RETURN jsonb_build_object('seen', v_seen, 'tokens', CASE WHEN v_seen IS DISTINCT FROM p ->> 'seen' THEN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.token_id, 'hash', encode(t.hash, 'hex'), 'name', t.name, 'roles', t.roles, 'namespaces', t.namespaces,
      'expires_us', (extract(epoch FROM t.expires_at) * 1000000)::bigint)), '[]')
    FROM tasker.tokens t WHERE tasker.token_is_good(t)) END);
END $$;
