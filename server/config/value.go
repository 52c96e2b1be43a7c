package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Path names a file. A relative one counts from the folder of the configuration
// file, not from where the program was started.
type Path string

// A Secret is text that is never printed. The zero value is no secret.
type Secret string

// String returns a fixed word, so that no format verb prints the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(set)"
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Duration is written with units, as 90s, 5m, 24h, 90d or 1h30m.
type Duration time.Duration

// String returns the shortest text that ParseDuration reads back.
func (d Duration) String() string {
	t := time.Duration(d)
	if t > 0 && t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// ParseDuration reads text as [time.ParseDuration] does, and d for days. It refuses
// negative values.
func ParseDuration(s string) (Duration, error) {
	fault := errors.New("needs a number with a unit, such as 90s, 5m, 24h or 90d")
	var days time.Duration
	rest := s
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > 100*365 {
			return 0, fault
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return Duration(days), nil
		}
	}
	t, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, fault
	case t < 0:
		return 0, errors.New("is negative")
	case days > 0 && t > 1<<61:
		return 0, fault
	}
	return Duration(days + t), nil
}

// Prefixes of values that stand somewhere else. textPrefix takes the rest as it is.
const (
	envPrefix  = "env:"
	filePrefix = "file:"
	textPrefix = "text:"
)

// maxValueFile bounds the file of a value, in bytes.
const maxValueFile = 256 << 10

// resolve returns the value that text stands for, and where it came from ("" for the
// text itself).
func (d *decoder) resolve(text string) (value, origin string, err error) {
	if rest, ok := strings.CutPrefix(text, textPrefix); ok {
		return rest, "", nil
	}
	if name, ok := strings.CutPrefix(text, envPrefix); ok {
		value, ok := d.lookupEnv(name)
		switch {
		case name == "" || strings.ContainsAny(name, " \t="):
			return "", "", fmt.Errorf("%q is not the name of an environment variable", name)
		case !ok:
			return "", "", fmt.Errorf("the environment variable %s is not set", name)
		case value == "":
			return "", "", fmt.Errorf("the environment variable %s is empty", name)
		}
		return value, "environment " + name, nil
	}
	if name, ok := strings.CutPrefix(text, filePrefix); ok {
		if name == "" {
			return "", "", errors.New("file: needs a path")
		}
		data, err := readLimited(d.path(name), maxValueFile)
		if err != nil {
			return "", "", err
		}
		value := strings.TrimRight(string(data), "\r\n")
		if value == "" {
			return "", "", fmt.Errorf("the file %s is empty", name)
		}
		return value, "file " + name, nil
	}
	return text, "", nil
}
