import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * A peer: the same ranking as a Kafka Streams application with exactly-once processing.
 *
 * <p>It holds open requests in a map, which costs less than a store with a changelog, and forgets
 * them when it ends: what is open then is lost, exactly-once notwithstanding.
 *
 * <pre>java -cp JARS Ranking.java KAFKA GROUP CANDIDATES FEEDS MODELS</pre>
 */
public final class Ranking {
  private static final double WEIGHT = 0.5;

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Candidate(String item_id, float[] features) {}

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Event(
      String request_id,
      String surface,
      String user_id,
      long requested_at,
      int expected,
      List<Candidate> candidates) {}

  record Scores(double quality, double engagement) {}

  record Item(String item_id, int position, double final_score, Scores scores) {}

  record Feed(
      String request_id,
      String surface,
      String user_id,
      long requested_at,
      long ranked_at,
      String completion,
      Scores weights,
      Map<String, Integer> models,
      List<Item> items) {}

  /** Both models, and a buffer for the features of one request. */
  static final class Models implements AutoCloseable {
    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession quality;
    private final OrtSession engagement;
    private FloatBuffer features = allocate(1);

    Models(Path folder) throws OrtException {
      OrtSession.SessionOptions options = new OrtSession.SessionOptions();
      options.setIntraOpNumThreads(1);
      quality = environment.createSession(folder.resolve("quality/1/model.onnx").toString(), options);
      engagement =
          environment.createSession(folder.resolve("engagement/1/model.onnx").toString(), options);
    }

    private static FloatBuffer allocate(int floats) {
      return ByteBuffer.allocateDirect(floats * Float.BYTES)
          .order(ByteOrder.nativeOrder())
          .asFloatBuffer();
    }

    List<Item> rank(List<Candidate> candidates) throws OrtException {
      int rows = candidates.size();
      int columns = candidates.get(0).features().length;
      if (features.capacity() < rows * columns) {
        features = allocate(rows * columns);
      }
      features.clear();
      for (Candidate candidate : candidates) {
        features.put(candidate.features());
      }
      features.flip();

      List<Item> unordered = new ArrayList<>(rows);
      long[] shape = {rows, columns};
      try (OnnxTensor tensor = OnnxTensor.createTensor(environment, features, shape);
          OrtSession.Result first = quality.run(Map.of("features", tensor));
          OrtSession.Result second = engagement.run(Map.of("features", tensor))) {
        FloatBuffer qualities = ((OnnxTensor) first.get(0)).getFloatBuffer();
        FloatBuffer engagements = ((OnnxTensor) second.get(0)).getFloatBuffer();
        for (int row = 0; row < rows; row++) {
          Scores scores = new Scores(qualities.get(row), engagements.get(row));
          double sum = WEIGHT * scores.quality() + WEIGHT * scores.engagement();
          unordered.add(new Item(candidates.get(row).item_id(), 0, sum, scores));
        }
      }

      unordered.sort(
          Comparator.comparingDouble((Item item) -> -item.final_score())
              .thenComparing(Item::item_id));
      List<Item> items = new ArrayList<>(rows);
      for (Item item : unordered) {
        items.add(new Item(item.item_id(), items.size(), item.final_score(), item.scores()));
      }
      return items;
    }

    @Override
    public void close() throws OrtException {
      quality.close();
      engagement.close();
    }
  }

  /** Collects the events of each request of one partition, and ranks what is complete. */
  static final class Ranker implements Processor<String, byte[], String, byte[]> {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Scores WEIGHTS = new Scores(WEIGHT, WEIGHT);
    private static final Map<String, Integer> VERSIONS = Map.of("quality", 1, "engagement", 1);

    private final Models models;
    private final Map<String, List<Candidate>> open = new HashMap<>();
    private ProcessorContext<String, byte[]> context;

    Ranker(Models models) {
      this.models = models;
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      System.out.println("ready");
    }

    @Override
    public void process(Record<String, byte[]> record) {
      try {
        Event event = JSON.readValue(record.value(), Event.class);
        List<Candidate> candidates =
            open.computeIfAbsent(event.request_id(), id -> new ArrayList<>(event.expected()));
        candidates.addAll(event.candidates());
        if (candidates.size() < event.expected()) {
          return;
        }
        open.remove(event.request_id());

        Feed feed =
            new Feed(
                event.request_id(),
                event.surface(),
                event.user_id(),
                event.requested_at(),
                System.currentTimeMillis(),
                "full",
                WEIGHTS,
                VERSIONS,
                models.rank(candidates));
        context.forward(record.withValue(JSON.writeValueAsBytes(feed)));
      } catch (IOException | OrtException error) {
        throw new IllegalStateException(event(record), error);
      }
    }

    private static String event(Record<String, byte[]> record) {
      return "event of request " + record.key();
    }
  }

  public static void main(String[] arguments) throws OrtException {
    String kafka = arguments[0];
    String group = arguments[1];
    String candidates = arguments[2];
    String feeds = arguments[3];
    Path folder = Path.of(arguments[4]);

    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, kafka);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.resolveSibling(group + "-state").toString());
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");

    Models models = new Models(folder);
    Topology topology = new Topology();
    topology.addSource(
        "candidates",
        Serdes.String().deserializer(),
        Serdes.ByteArray().deserializer(),
        candidates);
    topology.addProcessor("rank", () -> new Ranker(models), "candidates");
    topology.addSink(
        "feeds", feeds, Serdes.String().serializer(), Serdes.ByteArray().serializer(), "rank");

    KafkaStreams streams = new KafkaStreams(topology, settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }
}
