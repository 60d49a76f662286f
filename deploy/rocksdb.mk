# Compiles RocksDB as a static library from the sources of the crate librocksdb-sys, in eight pieces that each include
# a run of its files. Called by deploy/cargo.sh with CRATE (the crate's folder) and LZ4 (lz4's headers), in the folder
# that gets the library. The flags are those of the crate's build.rs on Linux; the feature lz4 is -DLZ4=1.

CXX ?= c++
CXXFLAGS := -std=c++20 -O3 -fPIC -ffunction-sections -fdata-sections -w -include cstdint -DLZ4=1 -DNDEBUG=1 \
    -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX \
    -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT \
    -DROCKSDB_RANGESYNC_PRESENT
INCLUDES = -I$(CRATE)/rocksdb/include -I$(CRATE)/rocksdb -I$(CRATE) -I$(LZ4)

pieces := 1 2 3 4 5 6 7 8
sources = $(filter-out util/build_version.cc,$(shell tr -d '\r' <$(CRATE)/rocksdb_lib_sources.txt))
started := $(shell date +%s)

librocksdb.a: $(pieces:%=piece-%.o) version.o
	@ar rcs $@.part $^ && mv $@.part $@

piece-%.o: piece-%.cc
	@$(CXX) $(CXXFLAGS) $(INCLUDES) -c $< -o $@.part && mv $@.part $@
	@echo "  RocksDB: $$(ls piece-*.o | wc -l) of $(words $(pieces)) pieces, $$(($$(date +%s) - $(started))) s" >&2

version.o: $(CRATE)/build_version.cc
	@$(CXX) $(CXXFLAGS) $(INCLUDES) -c $< -o $@

# Files that stand together in the list share headers: a piece is a run of them.
piece-%.cc:
	@printf '#include "%s"\n' $(sources:%=$(CRATE)/rocksdb/%) | \
	    awk -v piece=$* -v pieces=$(words $(pieces)) -v files=$(words $(sources)) \
	        'int((NR - 1) * pieces / files) + 1 == piece' >$@

.SECONDARY: $(pieces:%=piece-%.cc)
