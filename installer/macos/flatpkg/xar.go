package main

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// member is one file of a xar archive; a name may have one folder in it.
type member struct {
	name string
	data []byte
}

// A xar archive is a header, a compressed table of contents, and a heap, in which the
// table's checksum comes first (xar's wiki, "xarformat"). sha1 is what pkgbuild(1)
// takes too: it finds damage, and is no signature.
const (
	xarMagic  = 0x78617221 // "xar!"
	xarHeader = 28
	xarSHA1   = 1
)

type header struct {
	Magic            uint32
	Size, Version    uint16
	Packed, Unpacked uint64 // lengths of the table
	Checksum         uint32
}

type table struct {
	XMLName  xml.Name `xml:"xar"`
	Checksum struct {
		Style  string `xml:"style,attr"`
		Offset int    `xml:"offset"`
		Size   int    `xml:"size"`
	} `xml:"toc>checksum"`
	Created string  `xml:"toc>creation-time"`
	Files   []entry `xml:"toc>file"`
}

type entry struct {
	ID    int       `xml:"id,attr"`
	Name  string    `xml:"name"`
	Type  string    `xml:"type"`
	Mode  string    `xml:"mode"`
	UID   int       `xml:"uid"`
	GID   int       `xml:"gid"`
	Data  *heapData `xml:"data"`
	Files []entry   `xml:"file"`
}

type heapData struct {
	Offset    int      `xml:"offset"`
	Length    int      `xml:"length"`
	Size      int      `xml:"size"`
	Encoding  encoding `xml:"encoding"`
	Extracted checksum `xml:"extracted-checksum"`
	Archived  checksum `xml:"archived-checksum"`
}

type encoding struct {
	Style string `xml:"style,attr"`
}

type checksum struct {
	Style string `xml:"style,attr"`
	Sum   string `xml:",chardata"`
}

// asIs is how all is kept: it is compressed already.
const asIs = "application/octet-stream"

func writeXar(members []member, at time.Time) ([]byte, error) {
	t := table{Created: at.UTC().Format("2006-01-02T15:04:05")}
	t.Checksum.Style, t.Checksum.Size = "sha1", sha1.Size
	var heap bytes.Buffer
	id := 0
	for _, m := range members {
		sum := sha1.Sum(m.data)
		c := checksum{"sha1", hex.EncodeToString(sum[:])}
		data := &heapData{sha1.Size + heap.Len(), len(m.data), len(m.data), encoding{asIs}, c, c}
		heap.Write(m.data)
		list, name := &t.Files, m.name
		if dir, base, ok := strings.Cut(name, "/"); ok {
			if n := len(t.Files); n == 0 || t.Files[n-1].Name != dir {
				id++
				t.Files = append(t.Files, entry{ID: id, Name: dir, Type: "directory", Mode: "0755"})
			}
			list, name = &t.Files[len(t.Files)-1].Files, base
		}
		id++
		*list = append(*list, entry{ID: id, Name: name, Type: "file", Mode: "0644", Data: data})
	}
	text, err := xml.Marshal(t)
	if err != nil {
		return nil, err
	}
	text = append([]byte(xml.Header), text...)
	var packed, b bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err = z.Write(text)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	err = binary.Write(&b, binary.BigEndian, header{xarMagic, xarHeader, 1, uint64(packed.Len()), uint64(len(text)), xarSHA1})
	sum := sha1.Sum(packed.Bytes())
	b.Write(packed.Bytes())
	b.Write(sum[:])
	b.Write(heap.Bytes())
	return b.Bytes(), err
}

func readXar(b []byte) ([]member, error) {
	var h header
	if err := binary.Read(bytes.NewReader(b), binary.BigEndian, &h); err != nil {
		return nil, err
	}
	if h.Magic != xarMagic || h.Size != xarHeader || h.Version != 1 || h.Checksum != xarSHA1 || h.Packed > uint64(len(b)-xarHeader) {
		return nil, fmt.Errorf("no xar header that we write: %+v", h)
	}
	packed, heap := b[xarHeader:xarHeader+h.Packed], b[xarHeader+h.Packed:]
	if sum := sha1.Sum(packed); !bytes.HasPrefix(heap, sum[:]) {
		return nil, errors.New("the table of contents is damaged")
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	var t table
	if err := xml.Unmarshal(text, &t); err != nil {
		return nil, err
	}
	return extract(heap, "", t.Files)
}

func extract(heap []byte, dir string, files []entry) (all []member, err error) {
	for _, f := range files {
		name := dir + f.Name
		if f.Type == "directory" {
			below, err := extract(heap, name+"/", f.Files)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
			continue
		}
		d := f.Data
		if d == nil || d.Offset < sha1.Size || d.Length < 0 || d.Offset > len(heap)-d.Length || d.Length != d.Size || d.Encoding.Style != asIs {
			return nil, fmt.Errorf("%s is not kept as we do", name)
		}
		data := heap[d.Offset : d.Offset+d.Length]
		if sum := sha1.Sum(data); hex.EncodeToString(sum[:]) != d.Extracted.Sum {
			return nil, fmt.Errorf("%s is damaged", name)
		}
		all = append(all, member{name, data})
	}
	return all, nil
}
