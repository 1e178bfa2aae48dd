/* Reads candidate events, in JSON and in Protobuf, straight into the columns of an Event, writes the
   items of a feed in Protobuf straight from their columns, and hashes keys as Kafka does.

   This is the quick twin of what json_events.py, protobuf_events.py, protobuf_feeds.py and partitioner.py
   do in Python. It is optional: if it was not built, the Python code does all of it, with the same
   outcome.

   Rules for events:
   - It reads what is usual. For everything else, valid or not, it returns None, and the Python code
     decides. So it has no error messages, and no rule of its own about what is wrong.
   - What it returns is what the Python code would have returned. Properties in the tests hold the two
     together, and numbers are rounded as Python rounds them: to float64 first, then to float32.
   - A function that returns bool returns false if the event is left to Python. A Python exception may
     be set then (see `outcome`).

   Left to Python on purpose: names and ids with a backslash in JSON, a key given twice, refused
   candidates, nesting deeper than MAX_DEPTH, and in Protobuf `features_by_name` and candidates that
   come before their surface. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "expected a little-endian machine and a compiler with 128-bit integers"
#endif

/* The limits of judge.py. */
#define ID_BYTES 256
#define SOURCE_BYTES 256
#define LATEST_MS 253402300799999
#define MAX_EXPECTED 1000000

/* The fields of an Event (ranking/request.py), in their order. */
static const char *const FIELDS[] = {"request_id", "surface", "user_id", "requested_at", "expected", "last",
                                     "item_ids",   "sources", "rows",    "refused",      "missing",  "unknown"};
#define FIELD_COUNT 12

#define MAX_DEPTH 64
#define MAX_UNKNOWN 16
#define RECENT_SOURCES 256

typedef unsigned __int128 uint128;

/* Bytes of the event. `start` is NULL if the field was not given. */
typedef struct {
    const unsigned char *start;
    Py_ssize_t size;
} Text;

/* A surface, and what its candidates need. `rows` are `width` numbers each. */
typedef struct {
    PyObject *name; /* str */
    Text name_text;
    PyObject *value; /* what goes into the Event */
    PyObject *feature_names; /* tuple of str */
    Text *features; /* `width` and one more. The size is -1 for the last and if JSON has to escape it */
    Py_ssize_t width;
    float *default_row;
    float *absent_row; /* NULL if a candidate must have features */
} Surface;

/* A source and its name as a str. `name` is NULL if there is none. */
typedef struct {
    Text text;
    PyObject *name;
} Source;

typedef struct {
    PyObject_HEAD
    PyTypeObject *event_type;
    PyObject *source_names; /* gives the one string object for equal sources */
    Source recent_sources[RECENT_SOURCES]; /* each at the place of its hash */
    PyObject *positions;    /* dict: name of a surface -> int, its place in `surfaces` */
    Surface *surfaces;
    Py_ssize_t surface_count;
    Surface *last_surface; /* that of the last event: most have the same one */
    float *rows;           /* of the event that is read; kept for the next one */
    Py_ssize_t room;       /* numbers that fit into `rows` */
} Reader;

/* An event while it is read. `expected` is -1 if it was not given. */
typedef struct {
    Text request_id;
    Text user_id;
    Surface *surface;
    int64_t requested_at;
    int64_t expected;
    bool has_requested_at;
    bool is_last;
    PyObject *item_ids; /* list of str */
    PyObject *sources;  /* list of str or None */
    Py_ssize_t candidates;
    Py_ssize_t missing;
    Py_ssize_t unknown;
} Event;

/* Where the next byte is read. `is_ascii`: whether every string that was skipped is ASCII. */
typedef struct {
    const unsigned char *at;
    const unsigned char *end;
    bool is_ascii;
} Cursor;

/* ---- Columns ------------------------------------------------------------------------------- */

static bool is_text(Text text, const char *expected, Py_ssize_t size)
{
    return text.size == size && memcmp(text.start, expected, (size_t)size) == 0;
}

static bool is_id(Text text)
{
    return text.start != NULL && text.size >= 1 && text.size <= ID_BYTES;
}

static PyObject *as_str(Text text)
{
    return PyUnicode_DecodeUTF8((const char *)text.start, text.size, NULL);
}

/* The surface of that name. NULL if it is not known. */
static Surface *find_surface(Reader *reader, Text name)
{
    Surface *last = reader->last_surface;
    if (last != NULL && is_text(name, (const char *)last->name_text.start, last->name_text.size))
        return last;

    PyObject *wanted = as_str(name);
    if (wanted == NULL)
        return NULL;
    PyObject *position = PyDict_GetItemWithError(reader->positions, wanted);
    Py_DECREF(wanted);
    if (position == NULL)
        return NULL;
    reader->last_surface = &reader->surfaces[PyLong_AsSsize_t(position)];
    return reader->last_surface;
}

/* Room for the row of the next candidate. NULL if there is no memory. */
static float *next_row(Reader *reader, const Event *event)
{
    Py_ssize_t width = event->surface->width;
    Py_ssize_t needed = (event->candidates + 1) * width;
    if (needed > reader->room) {
        Py_ssize_t room = 2 * needed;
        float *rows = PyMem_Realloc(reader->rows, (size_t)room * sizeof(float));
        if (rows == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        reader->rows = rows;
        reader->room = room;
    }
    return reader->rows + event->candidates * width;
}

static bool use_absent_row(const Surface *surface, float *row)
{
    if (surface->absent_row == NULL)
        return false;
    memcpy(row, surface->absent_row, (size_t)surface->width * sizeof(float));
    return true;
}

/* Append a string to a list. The reference to it is taken over. */
static bool append(PyObject *list, PyObject *text)
{
    if (text == NULL)
        return false;
    int failed = PyList_Append(list, text);
    Py_DECREF(text);
    return failed == 0;
}

/* The characters of a str. They live as long as it does. */
static bool text_of(PyObject *str, Text *text)
{
    text->start = (const unsigned char *)PyUnicode_AsUTF8AndSize(str, &text->size);
    return text->start != NULL;
}

/* The one str for all equal sources. Few are in use at a time, so most are found among the recent
   ones. */
static PyObject *source_name(Reader *reader, Text source)
{
    size_t hash = (size_t)source.size;
    for (Py_ssize_t i = source.size > 4 ? source.size - 4 : 0; i < source.size; i++)
        hash = hash * 31 + source.start[i];
    Source *recent = &reader->recent_sources[hash % RECENT_SOURCES];
    Text known = recent->text;
    if (recent->name != NULL && is_text(source, (const char *)known.start, known.size))
        return Py_NewRef(recent->name);

    PyObject *given = as_str(source);
    if (given == NULL)
        return NULL;
    PyObject *name = PyObject_GetItem(reader->source_names, given);
    Py_DECREF(given);
    Text text;
    if (name == NULL || !text_of(name, &text)) {
        Py_XDECREF(name);
        return NULL;
    }
    Py_XDECREF(recent->name);
    recent->name = Py_NewRef(name);
    recent->text = text;
    return name;
}

/* Add a candidate, whose row is written already. */
static bool add_candidate(Reader *reader, Event *event, Text item_id, Text source)
{
    if (!is_id(item_id) || source.size > SOURCE_BYTES)
        return false;
    if (!append(event->item_ids, as_str(item_id)))
        return false;

    PyObject *name = source.size == 0 ? Py_NewRef(Py_None) : source_name(reader, source);
    if (!append(event->sources, name))
        return false;

    event->candidates++;
    return true;
}

/* The Event as a Python object. NULL if the event is left to Python. */
static PyObject *build(Reader *reader, const Event *event, PyObject *key)
{
    if (!is_id(event->request_id) || !is_id(event->user_id) || !event->has_requested_at)
        return NULL;
    if (event->candidates == 0 && !event->is_last)
        return NULL;
    if (!PyBytes_Check(key) || PyBytes_Size(key) != event->request_id.size)
        return NULL;
    if (memcmp(PyBytes_AsString(key), event->request_id.start, (size_t)event->request_id.size) != 0)
        return NULL;

    PyObject *result = PyType_GenericAlloc(reader->event_type, FIELD_COUNT);
    if (result == NULL)
        return NULL;

    Py_ssize_t row_bytes = event->surface->width * (Py_ssize_t)sizeof(float);
    PyObject *fields[FIELD_COUNT] = {
        as_str(event->request_id),
        Py_NewRef(event->surface->value),
        as_str(event->user_id),
        PyLong_FromLongLong(event->requested_at),
        event->expected < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(event->expected),
        PyBool_FromLong(event->is_last),
        Py_NewRef(event->item_ids),
        Py_NewRef(event->sources),
        PyBytes_FromStringAndSize((const char *)reader->rows, event->candidates * row_bytes),
        PyTuple_New(0),
        PyLong_FromSsize_t(event->missing),
        PyLong_FromSsize_t(event->unknown),
    };
    bool is_whole = true;
    for (Py_ssize_t i = 0; i < FIELD_COUNT; i++) {
        is_whole = is_whole && fields[i] != NULL;
        PyTuple_SetItem(result, i, fields[i]); /* takes the reference over */
    }
    if (!is_whole)
        Py_CLEAR(result);
    return result;
}

/* ---- Numbers ------------------------------------------------------------------------------- */

static const double TEN_TO[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const double SIGN[] = {1, -1};

#define MAX_FIVES 27 /* 5^27 is the last power of five below 2^63 */
/* floor(2^(127 + c) / 5^k), where 5^k has c bits: 128 bits, the first of which is set. */
static uint128 RECIPROCAL[MAX_FIVES + 1];
static int FIVES_BITS[MAX_FIVES + 1];

static void fill_reciprocals(void)
{
    uint64_t power = 1;
    for (int k = 1; k <= MAX_FIVES; k++) {
        power *= 5;
        int bits = 64 - __builtin_clzll(power);
        /* Long division, a bit at a time. The first `bits` bits of the dividend are less than 2^bits,
           so the quotient has 128 bits. */
        uint64_t rest = (uint64_t)1 << (bits - 1);
        uint128 quotient = 0;
        for (int i = 0; i < 128; i++) {
            rest <<= 1;
            quotient <<= 1;
            if (rest >= power) {
                rest -= power;
                quotient |= 1;
            }
        }
        RECIPROCAL[k] = quotient;
        FIVES_BITS[k] = bits;
    }
}

/* digits * 10^-k, rounded to the nearest float64, ties to even. `digits` is not 0, and 1 <= k <=
   MAX_FIVES. False if a product of 128 bits is too short to tell: that is rare.

   After D. Lemire, "Number Parsing at a Gigabyte per Second" (2021), for a few powers of ten. */
static bool divide_by_power_of_ten(uint64_t digits, int k, double *number)
{
    int zeros = __builtin_clzll(digits);
    uint64_t normal = digits << zeros;
    uint128 upper = (uint128)normal * (uint64_t)(RECIPROCAL[k] >> 64);
    uint128 lower = (uint128)normal * (uint64_t)RECIPROCAL[k];
    uint128 product = upper + (lower >> 64); /* the exact one is less than 2 greater */
    uint64_t high = (uint64_t)(product >> 64);
    uint64_t low = (uint64_t)product;

    /* 53 bits are kept. */
    int dropped_bits = (high >> 63) ? 11 : 10;
    uint64_t dropped = high & (((uint64_t)1 << dropped_bits) - 1);
    uint64_t half = (uint64_t)1 << (dropped_bits - 1);
    if (low >= UINT64_MAX - 1 || (dropped == half && low == 0))
        return false;
    uint64_t kept = (high >> dropped_bits) + (dropped >= half);

    /* high * 2^(1 - c - zeros - k) is the number. A power of two is made from its exponent. */
    int exponent = dropped_bits + 1 - FIVES_BITS[k] - zeros - k;
    uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    *number = (double)kept * scale;
    return true;
}

/* The number in these characters, by Python's own function. */
static bool number_by_python(const unsigned char *start, const unsigned char *end, double *number)
{
    char characters[64];
    size_t size = (size_t)(end - start);
    if (size >= sizeof characters)
        return false;
    memcpy(characters, start, size);
    characters[size] = 0;

    *number = PyOS_string_to_double(characters, NULL, NULL);
    return PyErr_Occurred() == NULL;
}

static bool is_digit(unsigned char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* The number of 8 digits. Each byte of `word` is the value of one, the first digit lowest.

   After "parse_eight_digits_unrolled" of D. Lemire's and G. Langdale's simdjson. */
static inline uint64_t number_of(uint64_t word)
{
    const uint64_t every_fourth = 0x000000FF000000FF;
    word = word * 10 + (word >> 8); /* every second byte is a number of two digits */
    uint64_t high = (word & every_fourth) * (100 + ((uint64_t)1000000 << 32));
    uint64_t low = ((word >> 16) & every_fourth) * (1 + ((uint64_t)10000 << 32));
    return (high + low) >> 32;
}

/* Append the digits from `at` on to `digits`. Return where they end. They are read 8 at a time, as the
   bytes of a word, and one by one close to the end of the event. */
static inline const unsigned char *read_digits(const unsigned char *at, const unsigned char *end,
                                               uint64_t *digits)
{
    static const uint64_t POWERS[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word ^= 0x3030303030303030; /* a digit is its value now, and every other byte is above 9 */
        uint64_t others = ((word + 0x7676767676767676) | word) & 0x8080808080808080;
        if (others != 0) {
            int count = __builtin_ctzll(others) >> 3;
            word = word << 8 << (56 - 8 * count); /* as if zeros came before the digits */
            *digits = *digits * POWERS[count] + number_of(word);
            return at + count;
        }
        *digits = *digits * 100000000 + number_of(word);
        at += 8;
    }
    while (is_digit(*at))
        *digits = *digits * 10 + (uint64_t)(*at++ - '0');
    return at;
}

static void take_digits(Cursor *cursor, uint64_t *digits)
{
    cursor->at = read_digits(cursor->at, cursor->end, digits);
}

/* Read a JSON number as a finite float32. */
static inline bool take_float(Cursor *cursor, float *number)
{
    const unsigned char *at = cursor->at;
    const unsigned char *end = cursor->end;
    bool is_negative = *at == '-';
    at += is_negative;

    const unsigned char *first_digit = at;
    uint64_t digits = (uint64_t)(*first_digit - '0');
    if (digits <= 9 && first_digit[1] == '.') {
        at++; /* most have one digit before the point */
    } else {
        digits = 0;
        at = read_digits(at, end, &digits);
    }
    Py_ssize_t count = at - first_digit;
    if (count == 0 || (*first_digit == '0' && count > 1))
        return false;

    int exponent = 0;
    bool is_integer = true;
    if (*at == '.') {
        const unsigned char *fraction = ++at;
        at = read_digits(at, end, &digits);
        Py_ssize_t places = at - fraction;
        if (places == 0 || places > 1000)
            return false;
        count += places;
        exponent = (int)-places;
        is_integer = false;
    }
    if (count <= 15 && (*at | 0x20) != 'e') {
        /* The usual number. Its digits and the power of ten are exact in float64, so one operation rounds
           once. A signed integer is converted faster than others. The integer -0 is 0. Without `&&` there
           is no branch on the sign, which no processor could guess. */
        bool is_below_zero = is_negative & ((digits != 0) | !is_integer);
        *number = (float)((double)(int64_t)digits / TEN_TO[-exponent] * SIGN[is_below_zero]);
        cursor->at = at;
        return true;
    }

    if (count > 19) {
        /* `digits` may have overflowed, unless the first of them are zeros. */
        const unsigned char *digit = first_digit;
        while (digit < at && (*digit == '0' || *digit == '.'))
            count -= *digit++ == '0';
    }

    if ((*at | 0x20) == 'e') {
        at++;
        bool is_below = *at == '-';
        at += is_below || *at == '+';
        const unsigned char *first = at;
        uint64_t given = 0;
        at = read_digits(at, end, &given);
        if (at == first || at - first > 4)
            return false;
        exponent += is_below ? -(int)given : (int)given;
        is_integer = false;
    }

    double exact;
    if (count <= 19 && digits <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) {
        /* Exact as well. */
        exact = (double)digits;
        exact = exponent < 0 ? exact / TEN_TO[-exponent] : exact * TEN_TO[exponent];
        exact *= SIGN[is_negative];
    } else if (count <= 19 && digits != 0 && exponent < 0 && exponent >= -MAX_FIVES &&
               divide_by_power_of_ten(digits, -exponent, &exact)) {
        exact *= SIGN[is_negative];
    } else if (!number_by_python(cursor->at, at, &exact)) {
        return false;
    }
    cursor->at = at;

    if (is_integer && exact == 0)
        exact = 0; /* the integer -0 is 0 */
    *number = (float)exact;
    return isfinite(*number);
}

/* ---- JSON ----------------------------------------------------------------------------------

   Python puts a zero behind the bytes of an event, and no part of JSON begins with one. So the byte at
   the cursor may always be read, also at the end. */

static inline void skip_space(Cursor *cursor)
{
    while (*cursor->at == ' ' || *cursor->at == '\n' || *cursor->at == '\r' || *cursor->at == '\t')
        cursor->at++;
}

static inline bool take(Cursor *cursor, unsigned char expected)
{
    if (*cursor->at != expected)
        return false;
    cursor->at++;
    return true;
}

static inline bool take_word(Cursor *cursor, const char *word, Py_ssize_t size)
{
    if (cursor->end - cursor->at < size || memcmp(cursor->at, word, (size_t)size) != 0)
        return false;
    cursor->at += size;
    return true;
}
#define TAKE_WORD(cursor, literal) take_word(cursor, literal, (Py_ssize_t)sizeof(literal) - 1)
#define TAKE_KEY(cursor, literal) TAKE_WORD(cursor, "\"" literal "\"")

/* Whether the cursor is not at the end of an object or a list, whose first bracket was read. */
static inline bool has_members(Cursor *cursor, unsigned char close)
{
    skip_space(cursor);
    return *cursor->at != close;
}

/* Take what stands between two parts, and the space around it: a comma between members, a colon between
   a key and its value. */
static inline bool take_separator(Cursor *cursor, unsigned char separator)
{
    skip_space(cursor);
    if (!take(cursor, separator))
        return false;
    skip_space(cursor);
    return true;
}

/* The first byte from `at` on that a string cannot hold as it is: a quotation mark, a backslash or a
   control character. There is one at `end`, at the latest. */
static inline const unsigned char *end_of_plain(const unsigned char *at, const unsigned char *end)
{
    const uint64_t ones = 0x0101010101010101;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        /* `(x - n) & ~x` has the highest bit of a byte set if that byte of x is less than n. It may be
           set in later bytes too, by what the subtraction borrows, but only the first one counts. */
        uint64_t quote = word ^ '"' * ones;
        uint64_t backslash = word ^ '\\' * ones;
        uint64_t stops = (quote - ones) & ~quote;
        stops |= (backslash - ones) & ~backslash;
        stops |= (word - 0x20 * ones) & ~word;
        stops &= 0x80 * ones;
        if (stops != 0)
            return at + (__builtin_ctzll(stops) >> 3);
        at += 8;
    }
    while (*at != '"' && *at != '\\' && *at >= 0x20)
        at++;
    return at;
}

/* Read a string without escapes. Whether it is UTF-8 is seen when it becomes a str. */
static inline bool take_text(Cursor *cursor, Text *text)
{
    if (!take(cursor, '"'))
        return false;
    text->start = cursor->at;
    cursor->at = end_of_plain(cursor->at, cursor->end);
    text->size = cursor->at - text->start;
    return take(cursor, '"');
}

/* Note that text was passed which does not become a str. It must be UTF-8 all the same. */
static void note_passed(Cursor *cursor, const unsigned char *start, const unsigned char *end)
{
    unsigned char all = 0;
    for (const unsigned char *at = start; at < end; at++)
        all |= *at;
    cursor->is_ascii = cursor->is_ascii && all < 0x80;
}

static bool skip_escape(Cursor *cursor)
{
    unsigned char c = *cursor->at++;
    if (c != 'u')
        return c != 0 && strchr("\"\\/bfnrt", c) != NULL;

    for (int i = 0; i < 4; i++) {
        c = *cursor->at++;
        if (!is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))
            return false;
    }
    return true;
}

static bool skip_string(Cursor *cursor)
{
    const unsigned char *start = cursor->at;
    if (!take(cursor, '"'))
        return false;
    cursor->at = end_of_plain(cursor->at, cursor->end);
    while (take(cursor, '\\')) {
        if (!skip_escape(cursor))
            return false;
        cursor->at = end_of_plain(cursor->at, cursor->end);
    }
    note_passed(cursor, start, cursor->at);
    return take(cursor, '"');
}

static bool skip_number(Cursor *cursor)
{
    uint64_t ignored = 0;
    take(cursor, '-');
    const unsigned char *first = cursor->at;
    take_digits(cursor, &ignored);
    if (cursor->at == first || (*first == '0' && cursor->at - first > 1))
        return false;
    if (take(cursor, '.')) {
        first = cursor->at;
        take_digits(cursor, &ignored);
        if (cursor->at == first)
            return false;
    }
    if (take(cursor, 'e') || take(cursor, 'E')) {
        if (!take(cursor, '-'))
            take(cursor, '+');
        first = cursor->at;
        take_digits(cursor, &ignored);
        if (cursor->at == first)
            return false;
    }
    return true;
}

static bool skip_value(Cursor *cursor, int depth)
{
    if (depth > MAX_DEPTH)
        return false;
    switch (*cursor->at) {
    case '"':
        return skip_string(cursor);
    case 't':
        return TAKE_WORD(cursor, "true");
    case 'f':
        return TAKE_WORD(cursor, "false");
    case 'n':
        return TAKE_WORD(cursor, "null");
    case '{':
        cursor->at++;
        for (bool more = has_members(cursor, '}'); more; more = take_separator(cursor, ',')) {
            if (!skip_string(cursor) || !take_separator(cursor, ':') || !skip_value(cursor, depth + 1))
                return false;
        }
        return take(cursor, '}');
    case '[':
        cursor->at++;
        for (bool more = has_members(cursor, ']'); more; more = take_separator(cursor, ',')) {
            if (!skip_value(cursor, depth + 1))
                return false;
        }
        return take(cursor, ']');
    default:
        return skip_number(cursor);
    }
}

/* Skip a member whose key nobody knows. */
static bool skip_member(Cursor *cursor)
{
    Text key;
    if (!take_text(cursor, &key) || !take_separator(cursor, ':'))
        return false;
    note_passed(cursor, key.start, key.start + key.size);
    return skip_value(cursor, 0);
}

static bool take_integer(Cursor *cursor, int64_t largest, int64_t *number)
{
    const unsigned char *first = cursor->at;
    uint64_t digits = 0;
    take_digits(cursor, &digits);
    Py_ssize_t count = cursor->at - first;
    if (count == 0 || count > 18 || (*first == '0' && count > 1))
        return false;
    if (*cursor->at == '.' || (*cursor->at | 0x20) == 'e')
        return false;
    *number = (int64_t)digits;
    return *number <= largest;
}

static bool take_positional(Cursor *cursor, const Surface *surface, float *row)
{
    Py_ssize_t count = 0;
    for (bool more = has_members(cursor, ']'); more; more = take_separator(cursor, ',')) {
        if (count == surface->width || !take_float(cursor, &row[count]))
            return false;
        count++;
    }
    if (!take(cursor, ']'))
        return false;
    return count == surface->width || (count == 0 && use_absent_row(surface, row));
}

/* The place of a feature, looked for from `next` on. -1 if the surface does not have it. */
static Py_ssize_t find_feature(const Surface *surface, Text name, Py_ssize_t next)
{
    for (Py_ssize_t tried = 0; tried < surface->width; tried++) {
        Py_ssize_t place = (next + tried) % surface->width;
        Text feature = surface->features[place];
        if (is_text(name, (const char *)feature.start, feature.size))
            return place;
    }
    return -1;
}

/* Whether the name of a feature comes next, as a key. */
static inline bool take_feature_name(Cursor *cursor, Text feature)
{
    if (feature.size < 0 || cursor->end - cursor->at < feature.size + 2)
        return false;
    const unsigned char *name = cursor->at + 1;
    if (*cursor->at != '"' || name[feature.size] != '"')
        return false;
    if (!is_text(feature, (const char *)name, feature.size))
        return false;
    cursor->at += feature.size + 2;
    return true;
}

static bool take_named(Cursor *cursor, const Surface *surface, float *row, Event *event)
{
    Text unknown[MAX_UNKNOWN];
    Py_ssize_t unknown_count = 0;
    Py_ssize_t known = 0;
    Py_ssize_t next = 0; /* most events name the features in order */
    for (Py_ssize_t i = 0; i < surface->width; i++)
        row[i] = NAN; /* not given yet: no number that is read is NaN */

    for (bool more = has_members(cursor, '}'); more; more = take_separator(cursor, ',')) {
        Text name = {NULL, 0};
        Py_ssize_t place = next;
        if (!take_feature_name(cursor, surface->features[next])) {
            if (!take_text(cursor, &name))
                return false;
            place = find_feature(surface, name, next);
        }
        if (!take_separator(cursor, ':'))
            return false;
        if (place >= 0) {
            if (!isnan(row[place]) || !take_float(cursor, &row[place]))
                return false;
            known++;
            next = place + 1 < surface->width ? place + 1 : 0;
            continue;
        }

        if (unknown_count == MAX_UNKNOWN || !skip_value(cursor, 0))
            return false;
        for (Py_ssize_t i = 0; i < unknown_count; i++) {
            if (is_text(name, (const char *)unknown[i].start, unknown[i].size))
                return false;
        }
        note_passed(cursor, name.start, name.start + name.size);
        unknown[unknown_count++] = name;
    }
    if (!take(cursor, '}'))
        return false;
    if (known == 0 && unknown_count == 0 && use_absent_row(surface, row))
        return true;

    for (Py_ssize_t i = 0; i < surface->width; i++) {
        if (isnan(row[i]))
            row[i] = surface->default_row[i];
    }
    event->missing += surface->width - known;
    event->unknown += unknown_count;
    return true;
}

static bool take_candidate(Reader *reader, Cursor *cursor, Event *event)
{
    Text item_id = {NULL, 0};
    Text source = {NULL, 0};
    bool has_source = false;
    bool has_features = false;
    bool is_null = false;
    float *row = next_row(reader, event);
    if (row == NULL || !take(cursor, '{'))
        return false;

    for (bool more = has_members(cursor, '}'); more; more = take_separator(cursor, ',')) {
        if (TAKE_KEY(cursor, "item_id")) {
            if (item_id.start != NULL || !take_separator(cursor, ':') || !take_text(cursor, &item_id))
                return false;
        } else if (TAKE_KEY(cursor, "source")) {
            if (has_source || !take_separator(cursor, ':'))
                return false;
            has_source = true;
            if (!TAKE_WORD(cursor, "null") && !take_text(cursor, &source))
                return false;
        } else if (TAKE_KEY(cursor, "features")) {
            if (has_features || !take_separator(cursor, ':'))
                return false;
            has_features = true;
            if (take(cursor, '[')) {
                if (!take_positional(cursor, event->surface, row))
                    return false;
            } else if (take(cursor, '{')) {
                if (!take_named(cursor, event->surface, row, event))
                    return false;
            } else if (TAKE_WORD(cursor, "null")) {
                is_null = true;
            } else {
                return false;
            }
        } else if (!skip_member(cursor)) {
            return false;
        }
    }
    if (!take(cursor, '}'))
        return false;
    if ((!has_features || is_null) && !use_absent_row(event->surface, row))
        return false;
    return add_candidate(reader, event, item_id, source);
}

static bool take_candidates(Reader *reader, Cursor *cursor, Event *event)
{
    if (!take(cursor, '['))
        return false;
    for (bool more = has_members(cursor, ']'); more; more = take_separator(cursor, ',')) {
        if (!take_candidate(reader, cursor, event))
            return false;
    }
    return take(cursor, ']');
}

/* Read a whole event in JSON. */
static bool take_json(Reader *reader, Cursor *cursor, Event *event)
{
    Text surface = {NULL, 0};
    const unsigned char *candidates = NULL; /* set if they were read or passed */
    bool has_candidates = false;
    bool has_expected = false;
    bool has_last = false;
    skip_space(cursor);
    if (!take(cursor, '{'))
        return false;

    for (bool more = has_members(cursor, '}'); more; more = take_separator(cursor, ',')) {
        bool is_read;
        if (TAKE_KEY(cursor, "request_id")) {
            is_read = event->request_id.start == NULL && take_separator(cursor, ':') &&
                      take_text(cursor, &event->request_id);
        } else if (TAKE_KEY(cursor, "surface")) {
            is_read = surface.start == NULL && take_separator(cursor, ':') && take_text(cursor, &surface);
            event->surface = is_read ? find_surface(reader, surface) : NULL;
            is_read = event->surface != NULL;
        } else if (TAKE_KEY(cursor, "user_id")) {
            is_read = event->user_id.start == NULL && take_separator(cursor, ':') &&
                      take_text(cursor, &event->user_id);
        } else if (TAKE_KEY(cursor, "requested_at")) {
            is_read = !event->has_requested_at && take_separator(cursor, ':') &&
                      take_integer(cursor, LATEST_MS, &event->requested_at);
            event->has_requested_at = true;
        } else if (TAKE_KEY(cursor, "expected")) {
            is_read = !has_expected && take_separator(cursor, ':');
            is_read = is_read && (TAKE_WORD(cursor, "null") ||
                                  take_integer(cursor, MAX_EXPECTED, &event->expected));
            has_expected = true;
        } else if (TAKE_KEY(cursor, "last")) {
            is_read = !has_last && take_separator(cursor, ':');
            has_last = true;
            if (TAKE_WORD(cursor, "true"))
                event->is_last = true;
            else
                is_read = is_read && (TAKE_WORD(cursor, "false") || TAKE_WORD(cursor, "null"));
        } else if (TAKE_KEY(cursor, "candidates")) {
            is_read = candidates == NULL && take_separator(cursor, ':');
            candidates = cursor->at;
            has_candidates = event->surface != NULL;
            if (has_candidates)
                is_read = is_read && take_candidates(reader, cursor, event);
            else
                is_read = is_read && skip_value(cursor, 0); /* the width of a row is not known yet */
        } else {
            is_read = skip_member(cursor);
        }
        if (!is_read)
            return false;
    }
    if (!take(cursor, '}'))
        return false;
    skip_space(cursor);
    if (cursor->at != cursor->end || candidates == NULL || event->surface == NULL)
        return false;

    if (!has_candidates) {
        cursor->at = candidates;
        return take_candidates(reader, cursor, event);
    }
    return true;
}

/* ---- Protobuf ------------------------------------------------------------------------------ */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
#define TAG(number, type) ((number) << 3 | (type))

static bool take_varint(Cursor *cursor, uint64_t *number)
{
    *number = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        if (cursor->at == cursor->end)
            return false;
        unsigned char c = *cursor->at++;
        *number |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80)
            return true;
    }
    return false; /* ten bytes: a negative number, or none */
}

static bool take_bytes(Cursor *cursor, Text *bytes)
{
    uint64_t size;
    if (!take_varint(cursor, &size) || size > (uint64_t)(cursor->end - cursor->at))
        return false;
    bytes->start = cursor->at;
    bytes->size = (Py_ssize_t)size;
    cursor->at += size;
    return true;
}

/* Skip a field that the schema does not have, or that has another type there. */
static bool skip_field(Cursor *cursor, uint64_t tag, uint64_t last_number)
{
    Text bytes;
    uint64_t number;
    if (tag >> 3 <= last_number || tag > UINT32_MAX)
        return false;
    switch (tag & 7) {
    case VARINT:
        return take_varint(cursor, &number);
    case BYTES:
        return take_bytes(cursor, &bytes);
    case FIXED64:
    case FIXED32: {
        Py_ssize_t size = (tag & 7) == FIXED64 ? 8 : 4;
        if (cursor->end - cursor->at < size)
            return false;
        cursor->at += size;
        return true;
    }
    default:
        return false;
    }
}

static bool are_finite(const float *row, Py_ssize_t width)
{
    bool is_finite = true;
    for (Py_ssize_t i = 0; i < width; i++)
        is_finite &= isfinite(row[i]) != 0;
    return is_finite;
}

static bool take_wire_candidate(Reader *reader, Text message, Event *event)
{
    Cursor cursor = {message.start, message.start + message.size, true};
    Text item_id = {NULL, 0};
    Text source = {NULL, 0};
    Text features = {NULL, 0};
    float *row = next_row(reader, event);
    if (row == NULL)
        return false;

    while (cursor.at < cursor.end) {
        uint64_t tag;
        bool is_read;
        if (!take_varint(&cursor, &tag))
            return false;
        switch (tag) {
        case TAG(1, BYTES):
            is_read = item_id.start == NULL && take_bytes(&cursor, &item_id);
            break;
        case TAG(2, BYTES):
            is_read = source.start == NULL && take_bytes(&cursor, &source);
            break;
        case TAG(3, BYTES): /* `features`, packed: the same bytes as `features_f32` */
        case TAG(4, BYTES):
            is_read = features.start == NULL && take_bytes(&cursor, &features);
            break;
        default:
            is_read = skip_field(&cursor, tag, 5);
        }
        if (!is_read)
            return false;
    }

    Py_ssize_t row_bytes = event->surface->width * (Py_ssize_t)sizeof(float);
    if (features.size == 0) {
        if (!use_absent_row(event->surface, row))
            return false;
    } else {
        if (features.size != row_bytes)
            return false;
        memcpy(row, features.start, (size_t)row_bytes);
        if (!are_finite(row, event->surface->width))
            return false;
    }
    return add_candidate(reader, event, item_id, source);
}

/* Read a whole event in Protobuf (schemas/candidate.proto). */
static bool take_protobuf(Reader *reader, Cursor *cursor, Event *event)
{
    Text surface = {NULL, 0};
    bool has_last = false;
    while (cursor->at < cursor->end) {
        uint64_t tag;
        uint64_t number;
        Text candidate;
        bool is_read;
        if (!take_varint(cursor, &tag))
            return false;
        switch (tag) {
        case TAG(1, BYTES):
            is_read = event->request_id.start == NULL && take_bytes(cursor, &event->request_id);
            break;
        case TAG(2, BYTES):
            is_read = surface.start == NULL && take_bytes(cursor, &surface);
            event->surface = is_read ? find_surface(reader, surface) : NULL;
            is_read = event->surface != NULL;
            break;
        case TAG(3, BYTES):
            is_read = event->user_id.start == NULL && take_bytes(cursor, &event->user_id);
            break;
        case TAG(4, VARINT):
            is_read = !event->has_requested_at && take_varint(cursor, &number) && number <= LATEST_MS;
            event->has_requested_at = true;
            event->requested_at = is_read ? (int64_t)number : 0;
            break;
        case TAG(5, VARINT):
            is_read = event->expected < 0 && take_varint(cursor, &number) && number <= MAX_EXPECTED;
            event->expected = is_read ? (int64_t)number : 0;
            break;
        case TAG(6, VARINT):
            is_read = !has_last && take_varint(cursor, &number) && number <= 1;
            has_last = true;
            event->is_last = is_read && number == 1;
            break;
        case TAG(7, BYTES):
            is_read = event->surface != NULL && take_bytes(cursor, &candidate) &&
                      take_wire_candidate(reader, candidate, event);
            break;
        default:
            is_read = skip_field(cursor, tag, 7);
        }
        if (!is_read)
            return false;
    }
    return event->surface != NULL;
}

/* ---- Items in Protobuf --------------------------------------------------------------------- */

/* The items of a feed as columns of float64: `final_scores` [items] and `scores` [items, width]. */
typedef struct {
    Py_buffer final_scores;
    Py_buffer scores;
    Py_ssize_t width;
} Items;

static double number_at(const Py_buffer *numbers, Py_ssize_t row, Py_ssize_t column)
{
    const char *at = (const char *)numbers->buf + row * numbers->strides[0];
    if (numbers->ndim > 1)
        at += column * numbers->strides[1];
    double number;
    memcpy(&number, at, sizeof number);
    return number;
}

static Py_ssize_t varint_size(uint64_t number)
{
    Py_ssize_t size = 1;
    for (; number > 0x7F; number >>= 7)
        size++;
    return size;
}

static unsigned char *put_varint(unsigned char *at, uint64_t number)
{
    for (; number > 0x7F; number >>= 7)
        *at++ = (unsigned char)(number | 0x80);
    *at++ = (unsigned char)number;
    return at;
}

/* A field of type BYTES, with its tag and its size. */
static Py_ssize_t field_size(Py_ssize_t size)
{
    return 1 + varint_size((uint64_t)size) + size;
}

/* What comes before the bytes of such a field. */
static unsigned char *put_head(unsigned char *at, unsigned char tag, Py_ssize_t size)
{
    *at++ = tag;
    return put_varint(at, (uint64_t)size);
}

/* No item is larger than this: five tags, five numbers of at most 10 bytes, its id and its scores. */
static Py_ssize_t largest_item(Py_ssize_t id_size, Py_ssize_t width)
{
    return 5 + 5 * 10 + id_size + width * (Py_ssize_t)sizeof(float);
}

/* Write an item as a field of its feed (schemas/feed.proto). A field that is 0 or empty is left out, as
   everywhere in Protobuf. */
static unsigned char *put_item(unsigned char *at, const Items *items, Py_ssize_t position, Text item_id)
{
    Py_ssize_t scores_size = items->width * (Py_ssize_t)sizeof(float);
    double final_score = number_at(&items->final_scores, position, 0);
    uint64_t final_bits;
    memcpy(&final_bits, &final_score, sizeof final_bits);
    bool has_final_score = final_bits != 0; /* -0.0 is not left out */

    Py_ssize_t size = 0;
    size += item_id.size > 0 ? field_size(item_id.size) : 0;
    size += position > 0 ? 1 + varint_size((uint64_t)position) : 0;
    size += has_final_score ? 1 + (Py_ssize_t)sizeof final_score : 0;
    size += scores_size > 0 ? field_size(scores_size) : 0;

    at = put_head(at, TAG(11, BYTES), size);
    if (item_id.size > 0) {
        at = put_head(at, TAG(1, BYTES), item_id.size);
        memcpy(at, item_id.start, (size_t)item_id.size);
        at += item_id.size;
    }
    if (position > 0) {
        *at++ = TAG(2, VARINT);
        at = put_varint(at, (uint64_t)position);
    }
    if (has_final_score) {
        *at++ = TAG(3, FIXED64);
        memcpy(at, &final_score, sizeof final_score);
        at += sizeof final_score;
    }
    if (scores_size > 0) {
        at = put_head(at, TAG(4, BYTES), scores_size);
        for (Py_ssize_t column = 0; column < items->width; column++) {
            float score = (float)number_at(&items->scores, position, column);
            memcpy(at, &score, sizeof score);
            at += sizeof score;
        }
    }
    return at;
}

/* All items as bytes. NULL, with an exception, if an id is no str or has no UTF-8. */
static PyObject *put_items(const Items *items, PyObject *item_ids)
{
    Py_ssize_t count = PyList_Size(item_ids);
    Py_ssize_t room = 0;
    Text item_id;
    for (Py_ssize_t position = 0; position < count; position++) {
        if (!text_of(PyList_GetItem(item_ids, position), &item_id))
            return NULL;
        room += largest_item(item_id.size, items->width);
    }
    unsigned char *bytes = PyMem_Malloc((size_t)room + 1);
    if (bytes == NULL)
        return PyErr_NoMemory();

    unsigned char *end = bytes;
    for (Py_ssize_t position = 0; position < count; position++) {
        text_of(PyList_GetItem(item_ids, position), &item_id);
        end = put_item(end, items, position, item_id);
    }
    PyObject *result = PyBytes_FromStringAndSize((const char *)bytes, end - bytes);
    PyMem_Free(bytes);
    return result;
}

/* Whether a buffer holds float64, as a row for each of `count` items. */
static bool are_numbers(const Py_buffer *numbers, int dimensions, Py_ssize_t count)
{
    return numbers->ndim == dimensions && strcmp(numbers->format, "d") == 0 && numbers->shape[0] == count;
}

/* write_items(item_ids, final_scores, scores) */
static PyObject *write_items(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "expected a list of item ids, final scores and scores");
        return NULL;
    }
    Items items;
    if (PyObject_GetBuffer(args[1], &items.final_scores, PyBUF_RECORDS_RO) != 0)
        return NULL;
    if (PyObject_GetBuffer(args[2], &items.scores, PyBUF_RECORDS_RO) != 0) {
        PyBuffer_Release(&items.final_scores);
        return NULL;
    }

    PyObject *result = NULL;
    Py_ssize_t item_count = PyList_Size(args[0]);
    if (are_numbers(&items.final_scores, 1, item_count) && are_numbers(&items.scores, 2, item_count)) {
        items.width = items.scores.shape[1];
        result = put_items(&items, args[0]);
    } else {
        PyErr_Format(PyExc_ValueError, "expected float64 for each of %zd items", item_count);
    }
    PyBuffer_Release(&items.scores);
    PyBuffer_Release(&items.final_scores);
    return result;
}

/* ---- The hash of a key --------------------------------------------------------------------- */

/* Kafka's murmur2 of a key, as partitioner.py has it. */
static PyObject *murmur2(PyObject *module, PyObject *key)
{
    (void)module;
    if (!PyBytes_Check(key)) {
        PyErr_SetString(PyExc_TypeError, "expected bytes");
        return NULL;
    }
    const unsigned char *at = (const unsigned char *)PyBytes_AsString(key);
    Py_ssize_t left = PyBytes_Size(key);

    const uint32_t factor = 0x5BD1E995;
    uint32_t hashed = 0x9747B28C ^ (uint32_t)left;
    for (; left >= 4; at += 4, left -= 4) {
        uint32_t word;
        memcpy(&word, at, sizeof word);
        word *= factor;
        word = (word ^ (word >> 24)) * factor;
        hashed = (hashed * factor) ^ word;
    }

    if (left > 0) {
        uint32_t rest = 0;
        memcpy(&rest, at, (size_t)left);
        hashed = (hashed ^ rest) * factor;
    }
    hashed = (hashed ^ (hashed >> 13)) * factor;
    return PyLong_FromUnsignedLong(hashed ^ (hashed >> 15));
}

/* ---- The reader ---------------------------------------------------------------------------- */

typedef bool (*TakeEvent)(Reader *, Cursor *, Event *);

/* The Event in the bytes `value`, or None if Python must decide. */
static PyObject *read_event(Reader *reader, TakeEvent take_event, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "got %zd arguments, expected value and key", count);
        return NULL;
    }
    PyObject *value = args[0];
    if (!PyBytes_Check(value))
        Py_RETURN_NONE;

    const unsigned char *start = (const unsigned char *)PyBytes_AsString(value);
    Cursor cursor = {start, start + PyBytes_Size(value), true};
    Event event = {.expected = -1, .item_ids = PyList_New(0), .sources = PyList_New(0)};

    PyObject *result = NULL;
    if (event.item_ids != NULL && event.sources != NULL && take_event(reader, &cursor, &event))
        result = build(reader, &event, args[1]);
    Py_XDECREF(event.item_ids);
    Py_XDECREF(event.sources);

    if (result != NULL && !cursor.is_ascii) {
        /* A string that was skipped may be no UTF-8. */
        PyObject *text = PyUnicode_DecodeUTF8((const char *)start, PyBytes_Size(value), NULL);
        if (text == NULL)
            Py_CLEAR(result);
        Py_XDECREF(text);
    }
    if (result != NULL)
        return result;
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            return NULL;
        PyErr_Clear(); /* bytes that are no UTF-8: Python says so, in its own words */
    }
    Py_RETURN_NONE;
}

static PyObject *read_json(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return read_event((Reader *)self, take_json, args, count);
}

static PyObject *read_protobuf(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return read_event((Reader *)self, take_protobuf, args, count);
}

static void reader_dealloc(PyObject *self)
{
    Reader *reader = (Reader *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t i = 0; i < reader->surface_count; i++) {
        Surface *surface = &reader->surfaces[i];
        Py_XDECREF(surface->name);
        Py_XDECREF(surface->value);
        Py_XDECREF(surface->feature_names);
        PyMem_Free(surface->features);
        PyMem_Free(surface->default_row);
        PyMem_Free(surface->absent_row);
    }
    for (size_t i = 0; i < RECENT_SOURCES; i++)
        Py_XDECREF(reader->recent_sources[i].name);
    PyMem_Free(reader->surfaces);
    PyMem_Free(reader->rows);
    Py_XDECREF((PyObject *)reader->event_type);
    Py_XDECREF(reader->source_names);
    Py_XDECREF(reader->positions);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* A copy of a row that Python gives as bytes. NULL, with an exception, if it has another width. */
static float *row_of(PyObject *bytes, Py_ssize_t width)
{
    size_t row_bytes = (size_t)width * sizeof(float);
    if (!PyBytes_Check(bytes) || (size_t)PyBytes_Size(bytes) != row_bytes) {
        PyErr_Format(PyExc_ValueError, "got a row %R, expected %zd float32 as bytes", bytes, width);
        return NULL;
    }
    float *row = PyMem_Malloc(row_bytes + 1);
    if (row == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(row, PyBytes_AsString(bytes), row_bytes);
    return row;
}

/* Fill `surface` from a tuple (name, surface, feature names, default row, absent row or None). */
static bool fill_surface(Surface *surface, PyObject *given)
{
    PyObject *name, *value, *names, *default_row, *absent_row;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "surfaces: expected tuples");
        return false;
    }
    if (!PyArg_ParseTuple(given, "UOO!OO", &name, &value, &PyTuple_Type, &names, &default_row, &absent_row))
        return false;
    surface->name = Py_NewRef(name);
    surface->value = Py_NewRef(value);
    surface->feature_names = Py_NewRef(names);
    surface->width = PyTuple_Size(names);
    surface->features = PyMem_Calloc((size_t)surface->width + 1, sizeof(Text));
    if (surface->features == NULL) {
        PyErr_NoMemory();
        return false;
    }
    if (!text_of(name, &surface->name_text))
        return false;
    for (Py_ssize_t i = 0; i < surface->width; i++) {
        Text *feature = &surface->features[i];
        if (!text_of(PyTuple_GetItem(names, i), feature))
            return false;
        const unsigned char *end = feature->start + feature->size;
        if (end_of_plain(feature->start, end) != end)
            feature->size = -1;
    }
    surface->features[surface->width].size = -1;

    surface->default_row = row_of(default_row, surface->width);
    if (surface->default_row == NULL)
        return false;
    if (absent_row != Py_None) {
        surface->absent_row = row_of(absent_row, surface->width);
        return surface->absent_row != NULL;
    }
    return true;
}

/* Whether an Event has the fields that are built here. Sets an exception if not: the code in Python is
   newer or older than what was compiled. */
static bool has_fields(PyObject *event_type)
{
    PyObject *names = PyObject_GetAttrString(event_type, "_fields");
    if (names == NULL)
        return false;
    bool is_same = PyTuple_Check(names) && PyTuple_Size(names) == FIELD_COUNT;
    for (Py_ssize_t i = 0; is_same && i < FIELD_COUNT; i++)
        is_same = PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, i), FIELDS[i]) == 0;
    Py_DECREF(names);
    if (!is_same)
        PyErr_SetString(PyExc_ImportError, "wire_codec was compiled for another version: install trimtab again");
    return is_same;
}

/* EventReader(event_type, source_names, surfaces) */
static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *event_type, *source_names, *surfaces;
    static char *names[] = {"event_type", "source_names", "surfaces", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO!", names, &PyType_Type, &event_type, &source_names,
                                     &PyTuple_Type, &surfaces))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)event_type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "event_type: expected a named tuple");
        return NULL;
    }
    if (!has_fields(event_type))
        return NULL;

    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    Reader *reader = (Reader *)self;
    Py_ssize_t count = PyTuple_Size(surfaces);
    reader->event_type = (PyTypeObject *)Py_NewRef(event_type);
    reader->source_names = Py_NewRef(source_names);
    reader->positions = PyDict_New();
    reader->surfaces = PyMem_Calloc((size_t)count + 1, sizeof(Surface));
    if (reader->positions == NULL || reader->surfaces == NULL) {
        Py_DECREF(self);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    reader->surface_count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *position = PyLong_FromSsize_t(i);
        bool is_filled = position != NULL && fill_surface(&reader->surfaces[i], PyTuple_GetItem(surfaces, i)) &&
                         PyDict_SetItem(reader->positions, reader->surfaces[i].name, position) == 0;
        Py_XDECREF(position);
        if (!is_filled) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return self;
}

static PyMethodDef reader_methods[] = {
    {"read_json", (PyCFunction)(void (*)(void))read_json, METH_FASTCALL,
     "read_json(value, key): the Event in JSON, or None if Python must decide."},
    {"read_protobuf", (PyCFunction)(void (*)(void))read_protobuf, METH_FASTCALL,
     "read_protobuf(value, key): the Event in Protobuf, or None if Python must decide."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {Py_tp_doc, "Reads the events of some surfaces. See wire_codec.c."},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "workers.codec.wire_codec.EventReader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = reader_slots,
};

static int module_exec(PyObject *module)
{
    fill_reciprocals();
    PyObject *type = PyType_FromSpec(&reader_spec);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "EventReader", type);
    Py_DECREF(type);
    return failed;
}

static PyMethodDef module_functions[] = {
    {"write_items", (PyCFunction)(void (*)(void))write_items, METH_FASTCALL,
     "write_items(item_ids, final_scores, scores): the items of a feed in Protobuf."},
    {"murmur2", murmur2, METH_O, "murmur2(key): Kafka's hash of a key, as a number without a sign."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "wire_codec",
    .m_doc = "Reads candidate events, writes items of feeds and hashes keys. Optional: see wire_codec.c.",
    .m_methods = module_functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_wire_codec(void)
{
    return PyModuleDef_Init(&module_definition);
}
