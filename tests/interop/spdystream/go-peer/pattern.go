package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// pattern returns a reader of size bytes, each of which depends on its place.
func pattern(size int) io.Reader { return io.LimitReader(&places{}, int64(size)) }

type places struct{ at uint32 }

func (p *places) Read(buffer []byte) (int, error) {
	for i := range buffer {
		buffer[i] = byte(p.at ^ p.at>>8 ^ p.at>>16)
		p.at++
	}
	return len(buffer), nil
}

// digest reads to the end, and returns the number of bytes and their SHA-256.
func digest(from io.Reader) string {
	hash := sha256.New()
	size, err := io.Copy(hash, from)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %x", size, hash.Sum(nil))
}

// tap reads the frames that arrive, because spdystream does not report the status of a RST_STREAM
// or a GOAWAY.
type tap struct {
	net.Conn
	head   []byte
	skip   int
	lock   sync.Mutex
	resets map[uint32]uint32
	goAway string
}

func (t *tap) Read(buffer []byte) (int, error) {
	n, err := t.Conn.Read(buffer)
	t.lock.Lock()
	defer t.lock.Unlock()
	for rest := buffer[:n]; len(rest) > 0; {
		if t.skip > 0 {
			step := t.skip
			if step > len(rest) {
				step = len(rest)
			}
			t.skip -= step
			rest = rest[step:]
			continue
		}
		t.head = append(t.head, rest[0])
		rest = rest[1:]
		t.look()
	}
	return n, err
}

// look parses the head of a complete frame, with the payload for RST_STREAM and GOAWAY.
func (t *tap) look() {
	if len(t.head) < 8 {
		return
	}
	length := int(binary.BigEndian.Uint32(t.head[4:]) & 0xff_ffff)
	isControl, kind := t.head[0]&0x80 != 0, binary.BigEndian.Uint16(t.head[2:])
	if !isControl || length != 8 || (kind != rstStream && kind != goAway) {
		t.head, t.skip = nil, length
		return
	}
	if len(t.head) < 16 {
		return
	}
	first, second := binary.BigEndian.Uint32(t.head[8:]), binary.BigEndian.Uint32(t.head[12:])
	if kind == rstStream {
		t.resets[first] = second
	} else {
		t.goAway = fmt.Sprintf("last %d, status %d", first, second)
	}
	t.head = nil
}

const (
	rstStream = 3
	goAway    = 7
)

// reset returns the status with which a stream was reset.
func (t *tap) reset(stream uint32) string {
	t.lock.Lock()
	defer t.lock.Unlock()
	if status, ok := t.resets[stream]; ok {
		return fmt.Sprintf("reset with %d", status)
	}
	return "no reset"
}

func (t *tap) ended() string {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.goAway
}
