-- How the forms of spans say what calls and judgements are made of: macros for `calls.sql` and `judgements.sql`. What can't be read is null;
-- nothing fails.

-- A span, an event or a log record: the fields of all forms. A field that is no text is its JSON.
create or replace temp macro fields_of(text) as try(
    json_transform(
        text,
        '{
            "traceId": "VARCHAR", "trace_id": "VARCHAR", "spanId": "VARCHAR", "span_id": "VARCHAR",
            "parentSpanId": "VARCHAR", "parent_span_id": "VARCHAR", "parent_id": "VARCHAR",
            "context": {"trace_id": "VARCHAR", "span_id": "VARCHAR"},
            "spanContext": {"traceId": "VARCHAR", "spanId": "VARCHAR"},
            "parentSpanContext": {"spanId": "VARCHAR"},
            "startTimeUnixNano": "VARCHAR", "start_time": "VARCHAR", "startTime": "VARCHAR",
            "endTimeUnixNano": "VARCHAR", "end_time": "VARCHAR", "endTime": "VARCHAR",
            "status": "VARCHAR",
            "attributes": [{"key": "VARCHAR", "value": {
                "stringValue": "VARCHAR", "intValue": "VARCHAR", "doubleValue": "DOUBLE", "arrayValue": "VARCHAR"
            }}]
        }'
    )
);

-- Is it no object, or are its attributes of no form that we know?
create or replace temp macro is_malformed(fields, text) as case
    when fields is null then true
    when fields.attributes is not null then len(fields.attributes) > 0 and fields.attributes[1].key is null
    else json_type(text) <> 'OBJECT' or json_type(text, '$.attributes') not in ('NULL', 'OBJECT')
end;

-- Those of a Collector are a list, those of SDKs an object.
create or replace temp macro attributes_of(fields, text) as case
    when fields.attributes is not null then fields.attributes
    when try(json_type(text, '$.attributes')) = 'OBJECT' then list_transform(
        list_zip(json_keys(text, '$.attributes'), json_extract(text, '$.attributes.*')),
        lambda pair: {
            'key': pair[1],
            'value': {
                'stringValue': case when json_type(pair[2]) = 'VARCHAR' then pair[2] ->> '$' end,
                'intValue': case when json_type(pair[2]) in ('BIGINT', 'UBIGINT') then pair[2] ->> '$' end,
                'doubleValue': case when json_type(pair[2]) = 'DOUBLE' then try_cast(pair[2] ->> '$' as double) end,
                'arrayValue': case when json_type(pair[2]) = 'ARRAY' then pair[2] ->> '$' end
            }
        }
    )
end;

create or replace temp macro value_of(attributes, names, wanted) as attributes[list_position(names, wanted)].value;

-- '' is no id, nor is one of zeros. Python's console writes 0x before it; the protocol's have 32 characters.
create or replace temp macro id_of(text) as case
    when coalesce(trim(text, '0x'), '') = '' or length(text) > 64 then ''
    when starts_with(lower(text), '0x') then substr(lower(text), 3)
    else lower(text)
end;

create or replace temp macro trace_of(fields) as id_of(
    coalesce(nullif(fields."traceId", ''), nullif(fields.trace_id, ''), fields."spanContext"."traceId", fields.context.trace_id)
);

create or replace temp macro span_of(fields) as id_of(
    coalesce(nullif(fields."spanId", ''), nullif(fields.span_id, ''), fields."spanContext"."spanId", fields.context.span_id)
);

create or replace temp macro parent_of(fields) as id_of(
    coalesce(
        nullif(fields."parentSpanId", ''), nullif(fields.parent_span_id, ''), fields."parentSpanContext"."spanId", fields.parent_id
    )
);

-- A whole number may be written as text, or as 3.0.
create or replace temp macro whole_of(text) as case
    when regexp_full_match(text, '-?[0-9]{1,19}') then try_cast(text as bigint)
    when try_cast(text as double) = trunc(try_cast(text as double)) then try_cast(try_cast(text as double) as bigint)
end;

-- Nanoseconds since 1970 (UTC). A time is a number, a text, [seconds, nanoseconds], or ISO 8601 with its zone; 0 is what an absent one is
-- in protobuf's JSON.
create or replace temp macro time_of(text) as nullif(
    greatest(
        0,
        case
            when starts_with(text, '[') then case
                when len(try_cast(text as bigint[])) = 2 and try_cast(text as bigint[])[1] between 1 and 9223372035
                    then try_cast(try_cast(text as bigint[])[1] * 1000000000::hugeint + try_cast(text as bigint[])[2] as bigint)
            end
            when regexp_matches(text, ':[0-9.]+ ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$')
                then try_cast(epoch_us(try_cast(text as timestamptz))::hugeint * 1000 as bigint)
            else whole_of(text)
        end
    ),
    0
);

create or replace temp macro start_of(fields) as time_of(coalesce(fields."startTimeUnixNano", fields.start_time, fields."startTime"));

create or replace temp macro end_of(fields) as time_of(coalesce(fields."endTimeUnixNano", fields.end_time, fields."endTime"));

create or replace temp macro is_error(code) as coalesce(code in ('2', 'STATUS_CODE_ERROR', 'ERROR'), false);

create or replace temp macro has_failed(fields) as case
    when starts_with(fields.status, '{')
        then is_error(fields.status::json ->> '$.code') or is_error(fields.status::json ->> '$.status_code')
    else is_error(fields.status)
end;

-- What is longer, or has another line, is a text.
create or replace temp macro name_of(value) as case
    when
        length(trim(coalesce(value."stringValue", value."intValue"), e' \t\n\r\f\v')) between 1 and 200
        and regexp_full_match(trim(coalesce(value."stringValue", value."intValue"), e' \t\n\r\f\v'), '(?:[^\pC\pZ]| )+')
        then trim(coalesce(value."stringValue", value."intValue"), e' \t\n\r\f\v')
end;

create or replace temp macro count_of(value) as case
    when whole_of(coalesce(value."stringValue", value."intValue", value."doubleValue"::varchar)) >= 0
        then whole_of(coalesce(value."stringValue", value."intValue", value."doubleValue"::varchar))
end;

create or replace temp macro number_of(value) as case
    when isfinite(coalesce(value."doubleValue", try_cast(value."intValue" as double)))
        then coalesce(value."doubleValue", try_cast(value."intValue" as double))
end;

-- USD. 0 is what some report that know none.
create or replace temp macro cost_of(value) as case
    when number_of(value) > 0 and number_of(value) < 1e9 then nullif(round(number_of(value), 9)::decimal(18, 9), 0)
end;

-- Events, as JSON.
create or replace temp macro events_of(text) as list_concat(
    json_transform(text, '{"events": ["JSON"]}').events, json_transform(text, '{"span_events": ["JSON"]}').span_events
);

create or replace temp macro exception_of(events) as list_filter(
    list_transform(
        events,
        lambda event: name_of(
            list_filter(
                attributes_of(fields_of(event), event), lambda each: each.key = 'exception.type'
            )[1].value
        )
    ),
    lambda name: name is not null
)[1];

-- The key of parts, which they have wherever they are found: as `sources.reports.evaluations.identity`.
create or replace temp macro identity_of(parts) as
    left(sha256(array_to_string(list_transform(parts, lambda part: coalesce(part, '')), chr(31))), 32);
